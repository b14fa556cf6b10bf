package main

import (
	"context"
	"encoding/json"

	micro "go-micro.dev/v4/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// goMicroPeer writes and reads go-micro's own type where its registry for etcd has it.
type goMicroPeer struct{ leased }

func newGoMicro(at place) (system, error) {
	base, err := newLeased(at)
	return &goMicroPeer{base}, err
}

func (p *goMicroPeer) folder() string {
	return p.prefix + "/micro/registry/" + p.service + "/"
}

func (p *goMicroPeer) register(ctx context.Context) error {
	if err := p.grant(ctx); err != nil {
		return err
	}
	node := &micro.Node{Id: "peer-1", Address: p.address, Metadata: map[string]string{"zone": "<eu>"}}
	value, err := json.Marshal(&micro.Service{
		Name:      p.service,
		Version:   "latest",
		Endpoints: []*micro.Endpoint{{Name: "Say.Hello"}},
		Nodes:     []*micro.Node{node},
	})
	if err != nil {
		return err
	}
	_, err = p.client.Put(ctx, p.folder()+"peer-1", string(value), clientv3.WithLease(p.lease))
	return err
}

func (p *goMicroPeer) unregister(ctx context.Context) error {
	_, err := p.client.Delete(ctx, p.folder()+"peer-1")
	return err
}

func (p *goMicroPeer) list(ctx context.Context) (any, error) {
	seen := map[string]*micro.Service{}
	found, err := p.client.Get(ctx, p.folder(), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	for _, kv := range found.Kvs {
		service := &micro.Service{}
		if err := json.Unmarshal(kv.Value, service); err != nil {
			return nil, err
		}
		seen[service.Nodes[0].Id] = service
	}
	return seen, nil
}
