// A program with go-micro's registry for etcd, for interoperability tests: `peer go-micro ENDPOINT PREFIX SERVICE
// ADDRESS`. PREFIX is empty, because the prefix of go-micro is fixed.
//
// It registers, prints `registered`, then a line of JSON for the list at each event of its watcher. At the
// end of its input it unregisters and exits; if it is killed, the registration expires.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/go-micro/plugins/v4/registry/etcd"
	"go-micro.dev/v4/registry"
)

const ttl = 2 * time.Second

func main() {
	if len(os.Args) != 6 || os.Args[3] != "" {
		log.Fatal(`usage: peer go-micro ENDPOINT "" SERVICE ADDRESS`)
	}
	endpoint, name, address := os.Args[2], os.Args[4], os.Args[5]
	own := &registry.Service{
		Name:      name,
		Version:   "latest",
		Endpoints: []*registry.Endpoint{{Name: "Say.Hello"}},
		Nodes:     []*registry.Node{{Id: "peer-1", Address: address, Metadata: map[string]string{"zone": "<eu>"}}},
	}
	if err := run(etcd.NewRegistry(registry.Addrs(endpoint)), own); err != nil {
		log.Fatal(err)
	}
}

func run(services registry.Registry, own *registry.Service) error {
	watcher, err := services.Watch(registry.WatchService(own.Name))
	if err != nil {
		return err
	}
	register := func() error { return services.Register(own, registry.RegisterTTL(ttl)) }
	if err := register(); err != nil {
		return err
	}
	fmt.Println("registered")
	go always(func() error { return tell(services, watcher, own.Name) })
	go always(func() error {
		time.Sleep(ttl / 3)
		return register()
	})
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return services.Deregister(own)
}

func always(do func() error) {
	for {
		if err := do(); err != nil {
			log.Fatal(err)
		}
	}
}

// tell waits for the next event, and says the list: each node with its service, as it is registered.
func tell(services registry.Registry, watcher registry.Watcher, name string) error {
	if _, err := watcher.Next(); err != nil {
		return err
	}
	listed, err := services.GetService(name)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	seen := map[string]registry.Service{}
	for _, service := range listed {
		for _, node := range service.Nodes {
			alone := *service
			alone.Nodes = []*registry.Node{node}
			seen[node.Id] = alone
		}
	}
	line, err := json.Marshal(seen)
	if err == nil {
		fmt.Println(string(line))
	}
	return err
}
