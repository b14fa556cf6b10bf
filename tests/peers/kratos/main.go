// A program with Kratos' registry for etcd, for interoperability tests: `peer kratos ENDPOINT PREFIX SERVICE ADDRESS`.
//
// It registers, prints `registered`, then a line of JSON for each list from its watcher. At the
// end of its input it unregisters and exits; if it is killed, the registration expires.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const ttl = 2 * time.Second

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: peer kratos ENDPOINT PREFIX SERVICE ADDRESS")
	}
	endpoint, prefix, name, address := os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		log.Fatal(err)
	}
	registrar := etcd.New(client, etcd.Namespace(prefix+"/microservices"), etcd.RegisterTTL(ttl))
	own := &registry.ServiceInstance{
		ID:        "peer-1",
		Name:      name,
		Version:   "v1",
		Metadata:  map[string]string{"zone": "<eu>"},
		Endpoints: []string{"http://" + address + "?isSecure=false"},
	}
	if err := run(context.Background(), registrar, own); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, registrar *etcd.Registry, own *registry.ServiceInstance) error {
	if err := registrar.Register(ctx, own); err != nil {
		return err
	}
	fmt.Println("registered")
	watcher, err := registrar.Watch(ctx, own.Name)
	if err != nil {
		return err
	}
	go func() {
		for {
			if err := tell(watcher); err != nil {
				log.Fatal(err)
			}
		}
	}()
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return registrar.Deregister(ctx, own)
}

// tell waits for the next list and says it.
func tell(watcher registry.Watcher) error {
	listed, err := watcher.Next()
	if err != nil {
		return err
	}
	seen := map[string]*registry.ServiceInstance{}
	for _, instance := range listed {
		seen[instance.ID] = instance
	}
	line, err := json.Marshal(seen)
	if err == nil {
		fmt.Println(string(line))
	}
	return err
}
