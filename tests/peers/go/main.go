// A program of another system, for interoperability tests: `peer SYSTEM ENDPOINT PREFIX SERVICE ADDRESS`.
//
// It registers, prints `registered`, then a line of JSON with the instances whenever they change. At the end of its
// input it unregisters and exits; if it is killed, the registration expires.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"reflect"
	"time"
)

const ttl = 2

// A system that can register a service and list it.
type system interface {
	register(ctx context.Context) error
	refresh(ctx context.Context) error
	unregister(ctx context.Context) error
	list(ctx context.Context) (any, error)
}

type place struct {
	endpoint, prefix, service, address string
}

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: peer SYSTEM ENDPOINT PREFIX SERVICE ADDRESS")
	}
	at := place{os.Args[2], os.Args[3], os.Args[4], os.Args[5]}
	make := map[string]func(place) (system, error){
		"grpc":           newGrpc,
		"containerpilot": newContainerPilot,
		"scalingo":       newScalingo,
	}[os.Args[1]]
	if make == nil {
		log.Fatalf("no system %q", os.Args[1])
	}
	peer, err := make(at)
	if err != nil {
		log.Fatal(err)
	}
	if err := run(context.Background(), peer); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, peer system) error {
	if err := peer.register(ctx); err != nil {
		return err
	}
	fmt.Println("registered")
	over := make(chan struct{})
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		}
		close(over)
	}()
	var printed any
	for beat := time.Now(); ; {
		select {
		case <-over:
			return peer.unregister(ctx)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(beat) > ttl*time.Second/3 {
			beat = time.Now()
			if err := peer.refresh(ctx); err != nil {
				return err
			}
		}
		now, err := peer.list(ctx)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(now, printed) {
			printed = now
			line, err := json.Marshal(now)
			if err != nil {
				return err
			}
			fmt.Println(string(line))
		}
	}
}
