package main

import (
	"context"
	"encoding/json"
	"net"
	"path"
	"strconv"
	"time"

	client "go.etcd.io/etcd/client/v2"
)

// kept is what both have that keep their records in etcd v2.
type kept struct {
	place
	keys client.KeysAPI
}

func newKept(at place) (kept, error) {
	c, err := client.New(client.Config{Endpoints: []string{"http://" + at.endpoint}})
	if err != nil {
		return kept{}, err
	}
	return kept{at, client.NewKeysAPI(c)}, nil
}

func (k *kept) put(ctx context.Context, key string, record any, options *client.SetOptions) error {
	value, err := json.Marshal(record)
	if err == nil {
		_, err = k.keys.Set(ctx, key, string(value), options)
	}
	return err
}

// leaves gives the values of all files under a folder.
func (k *kept) leaves(ctx context.Context, folder string) (map[string]string, error) {
	seen := map[string]string{}
	found, err := k.keys.Get(ctx, folder, &client.GetOptions{Recursive: true})
	if client.IsKeyNotFound(err) {
		return seen, nil
	}
	if err != nil {
		return nil, err
	}
	left := client.Nodes{found.Node}
	for len(left) > 0 {
		node := left[0]
		left = append(left[1:], node.Nodes...)
		if !node.Dir {
			seen[node.Key] = node.Value
		}
	}
	return seen, nil
}

// containerPilot writes as ContainerPilot 2 does: a folder with a time to live, and a file in it.
type containerPilot struct{ kept }

type serviceNode struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Port    int      `json:"port"`
	Tags    []string `json:"tags"`
}

func newContainerPilot(at place) (system, error) {
	base, err := newKept(at)
	return &containerPilot{base}, err
}

func (p *containerPilot) folder() string {
	return p.prefix + "/containerpilot/" + p.service
}

func (p *containerPilot) register(ctx context.Context) error {
	folder := p.folder() + "/peer-1"
	life := &client.SetOptions{Dir: true, TTL: ttl * time.Second}
	if _, err := p.keys.Set(ctx, folder, "", life); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	record := serviceNode{ID: "peer-1", Name: p.service, Address: host, Port: number}
	if err := p.put(ctx, folder+"/service", record, nil); err != nil {
		return err
	}
	return p.refresh(ctx)
}

func (p *containerPilot) refresh(ctx context.Context) error {
	life := &client.SetOptions{Dir: true, TTL: ttl * time.Second, PrevExist: client.PrevExist}
	_, err := p.keys.Set(ctx, p.folder()+"/peer-1", "", life)
	return err
}

func (p *containerPilot) unregister(ctx context.Context) error {
	_, err := p.keys.Delete(ctx, p.folder()+"/peer-1", &client.DeleteOptions{Dir: true, Recursive: true})
	return err
}

func (p *containerPilot) list(ctx context.Context) (any, error) {
	files, err := p.leaves(ctx, p.folder())
	seen := map[string]serviceNode{}
	for _, value := range files {
		var record serviceNode
		if err := json.Unmarshal([]byte(value), &record); err != nil {
			return nil, err
		}
		seen[record.ID] = record
	}
	return seen, err
}

// scalingo writes a public host and the description of its service, and follows the credentials.
type scalingo struct {
	kept
	user, password string
}

type host struct {
	Hostname        string            `json:"name"`
	ServiceName     string            `json:"service_name"`
	Ports           map[string]string `json:"ports"`
	User            string            `json:"user,omitempty"`
	Password        string            `json:"password,omitempty"`
	Public          bool              `json:"public,omitempty"`
	PrivateHostname string            `json:"private_hostname,omitempty"`
	PrivatePorts    map[string]string `json:"private_ports,omitempty"`
	Critical        bool              `json:"critical,omitempty"`
	Shard           string            `json:"shard,omitempty"`
	UUID            string            `json:"uuid,omitempty"`
}

type info struct {
	Name     string            `json:"name"`
	Critical bool              `json:"critical"`
	Hostname string            `json:"hostname,omitempty"`
	User     string            `json:"user,omitempty"`
	Password string            `json:"password,omitempty"`
	Ports    map[string]string `json:"ports,omitempty"`
	Public   bool              `json:"public,omitempty"`
}

var publicPorts = map[string]string{"http": "80", "https": "443"}

func newScalingo(at place) (system, error) {
	base, err := newKept(at)
	return &scalingo{base, "peer", "p@<s>"}, err
}

func (p *scalingo) infoKey() string {
	return p.prefix + "/services_infos/" + p.service
}

func (p *scalingo) folder() string {
	return p.prefix + "/services/" + p.service
}

func (p *scalingo) register(ctx context.Context) error {
	described := info{p.service, true, "pub.dev", p.user, p.password, publicPorts, true}
	if err := p.put(ctx, p.infoKey(), described, nil); err != nil {
		return err
	}
	return p.refresh(ctx)
}

func (p *scalingo) refresh(ctx context.Context) error {
	private, port, err := net.SplitHostPort(p.address)
	if err != nil {
		return err
	}
	found, err := p.keys.Get(ctx, p.infoKey(), nil)
	if err != nil {
		return err
	}
	var described info
	if err := json.Unmarshal([]byte(found.Node.Value), &described); err != nil {
		return err
	}
	p.user, p.password = described.User, described.Password
	record := host{
		Hostname: "pub.dev", ServiceName: p.service, Ports: publicPorts, User: p.user, Password: p.password,
		Public: true, PrivateHostname: private, PrivatePorts: map[string]string{"http": port},
		Critical: true, UUID: "peer-" + private,
	}
	life := &client.SetOptions{TTL: ttl * time.Second}
	return p.put(ctx, path.Join(p.folder(), record.UUID), record, life)
}

func (p *scalingo) unregister(ctx context.Context) error {
	private, _, err := net.SplitHostPort(p.address)
	if err == nil {
		_, err = p.keys.Delete(ctx, path.Join(p.folder(), "peer-"+private), nil)
	}
	return err
}

func (p *scalingo) list(ctx context.Context) (any, error) {
	files, err := p.leaves(ctx, p.folder())
	seen := map[string]host{}
	for _, value := range files {
		var record host
		if err := json.Unmarshal([]byte(value), &record); err != nil {
			return nil, err
		}
		seen[record.PrivateHostname] = record
	}
	return seen, err
}
