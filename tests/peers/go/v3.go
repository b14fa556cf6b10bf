package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/go-kratos/kratos/v2/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// leased is what both have that keep their records in etcd v3 under a lease.
type leased struct {
	place
	client *clientv3.Client
	lease  clientv3.LeaseID
}

func newLeased(at place) (leased, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{at.endpoint}})
	return leased{place: at, client: client}, err
}

func (l *leased) grant(ctx context.Context) error {
	granted, err := l.client.Grant(ctx, ttl)
	if err == nil {
		l.lease = granted.ID
	}
	return err
}

func (l *leased) refresh(ctx context.Context) error {
	_, err := l.client.KeepAliveOnce(ctx, l.lease)
	return err
}

// grpcPeer uses the manager of endpoints that etcd's client comes with.
type grpcPeer struct {
	leased
	manager endpoints.Manager
}

func newGrpc(at place) (system, error) {
	base, err := newLeased(at)
	if err != nil {
		return nil, err
	}
	manager, err := endpoints.NewManager(base.client, at.prefix+"/grpc/"+at.service)
	return &grpcPeer{base, manager}, err
}

func (p *grpcPeer) key() string {
	return p.prefix + "/grpc/" + p.service + "/" + p.address
}

func (p *grpcPeer) register(ctx context.Context) error {
	if err := p.grant(ctx); err != nil {
		return err
	}
	metadata := map[string]string{"zone": "<eu>", "version": "1"}
	endpoint := endpoints.Endpoint{Addr: p.address, Metadata: metadata}
	return p.manager.AddEndpoint(ctx, p.key(), endpoint, clientv3.WithLease(p.lease))
}

func (p *grpcPeer) unregister(ctx context.Context) error {
	return p.manager.DeleteEndpoint(ctx, p.key())
}

func (p *grpcPeer) list(ctx context.Context) (any, error) {
	listed, err := p.manager.List(ctx)
	seen := map[string]any{}
	for _, endpoint := range listed {
		seen[endpoint.Addr] = endpoint.Metadata
	}
	return seen, err
}

// kratosPeer writes and reads Kratos' own type where its registry for etcd has it.
type kratosPeer struct{ leased }

func newKratos(at place) (system, error) {
	base, err := newLeased(at)
	return &kratosPeer{base}, err
}

func (p *kratosPeer) instance() *registry.ServiceInstance {
	return &registry.ServiceInstance{
		ID:        "peer-1",
		Name:      p.service,
		Version:   "v1",
		Metadata:  map[string]string{"zone": "<eu>"},
		Endpoints: []string{"http://" + p.address + "?isSecure=false"},
	}
}

func (p *kratosPeer) folder() string {
	return fmt.Sprintf("%s/microservices/%s", p.prefix, p.service)
}

func (p *kratosPeer) register(ctx context.Context) error {
	if err := p.grant(ctx); err != nil {
		return err
	}
	value, err := json.Marshal(p.instance())
	if err != nil {
		return err
	}
	_, err = p.client.Put(ctx, p.folder()+"/peer-1", string(value), clientv3.WithLease(p.lease))
	return err
}

func (p *kratosPeer) unregister(ctx context.Context) error {
	_, err := p.client.Delete(ctx, p.folder()+"/peer-1")
	return err
}

func (p *kratosPeer) list(ctx context.Context) (any, error) {
	seen := map[string]*registry.ServiceInstance{}
	found, err := p.client.Get(ctx, p.folder(), clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	for _, kv := range found.Kvs {
		instance := &registry.ServiceInstance{}
		if err := json.Unmarshal(kv.Value, instance); err != nil {
			return nil, err
		}
		seen[instance.ID] = instance
	}
	return seen, nil
}
