package main

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
)

// grpcPeer uses the manager of endpoints that etcd's client comes with, under a lease.
type grpcPeer struct {
	place
	client  *clientv3.Client
	lease   clientv3.LeaseID
	manager endpoints.Manager
}

func newGrpc(at place) (system, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{at.endpoint}})
	if err != nil {
		return nil, err
	}
	manager, err := endpoints.NewManager(client, at.prefix+"/grpc/"+at.service)
	return &grpcPeer{place: at, client: client, manager: manager}, err
}

func (p *grpcPeer) key() string {
	return p.prefix + "/grpc/" + p.service + "/" + p.address
}

func (p *grpcPeer) register(ctx context.Context) error {
	granted, err := p.client.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	p.lease = granted.ID
	metadata := map[string]string{"zone": "<eu>", "version": "1"}
	endpoint := endpoints.Endpoint{Addr: p.address, Metadata: metadata}
	return p.manager.AddEndpoint(ctx, p.key(), endpoint, clientv3.WithLease(p.lease))
}

func (p *grpcPeer) refresh(ctx context.Context) error {
	_, err := p.client.KeepAliveOnce(ctx, p.lease)
	return err
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
