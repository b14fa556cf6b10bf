// The same operations with etcd's client for Go; see README.md of the benchmarks. It does what the floor does, as its
// documentation shows.
//
//	go follow|register URL COUNT
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

const (
	all     = "/discover/services/"
	ttl     = 15
	workers = 64
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: go follow|register URL COUNT")
	}
	place, err := url.Parse(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	task := follow
	if os.Args[1] == "register" {
		task = register
	}
	began := now()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{place.Host}})
	if err == nil {
		err = task(context.Background(), client, began, count)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// The known instances, and the delay of each change.
type known struct {
	sync.Mutex
	instances map[string]map[string]any
	latencies []int64
}

func (k *known) apply(event *clientv3.Event) {
	k.Lock()
	defer k.Unlock()
	if event.Type == clientv3.EventTypeDelete {
		delete(k.instances, string(event.Kv.Key))
		return
	}
	attributes := decode(event.Kv.Value)
	if written, isText := attributes["t"].(string); isText {
		if at, err := strconv.ParseInt(written, 10, 64); err == nil {
			k.latencies = append(k.latencies, now()-at)
		}
	}
	k.instances[string(event.Kv.Key)] = attributes
}

func follow(ctx context.Context, client *clientv3.Client, began int64, count int) error {
	listed, err := client.Get(ctx, all, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	known := known{instances: map[string]map[string]any{}, latencies: []int64{}}
	for _, kv := range listed.Kvs {
		known.instances[string(kv.Key)] = decode(kv.Value)
	}
	after := clientv3.WithRev(listed.Header.Revision + 1)
	for number := range count {
		told := client.Watch(ctx, fmt.Sprintf("%sbench-%d/", all, number), clientv3.WithPrefix(), after)
		go func() {
			for response := range told {
				for _, event := range response.Events {
					known.apply(event)
				}
			}
		}()
	}
	tell(map[string]any{"started": began, "ready": now()})
	waitForTheEnd()
	known.Lock()
	defer known.Unlock()
	tell(map[string]any{"latencies": known.latencies, "online": len(known.instances)})
	return nil
}

func register(ctx context.Context, client *clientv3.Client, began int64, count int) error {
	var next atomic.Int64
	failed := make(chan error, workers)
	for range workers {
		go func() {
			var err error
			for number := next.Add(1) - 1; err == nil && number < int64(count); number = next.Add(1) - 1 {
				err = keep(ctx, client, number)
			}
			failed <- err
		}()
	}
	for range workers {
		if err := <-failed; err != nil {
			return err
		}
	}
	tell(map[string]any{"started": began, "ready": now()})
	waitForTheEnd()
	tell(map[string]any{"registered": count})
	return nil
}

// Registers one instance with its own lease.
func keep(ctx context.Context, client *clientv3.Client, number int64) error {
	lease, err := client.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%sbench-0/%s:1000", all, host(number))
	if _, err := client.Put(ctx, key, "null", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	renewed, err := client.KeepAlive(ctx, lease.ID)
	go func() {
		for range renewed {
		}
	}()
	return err
}

func decode(value []byte) map[string]any {
	var attributes map[string]any
	_ = json.Unmarshal(value, &attributes)
	return attributes
}

// Returns the host of an instance by number, the same in every language.
func host(number int64) string {
	return fmt.Sprintf("10.%d.%d.%d", number/62500, number/250%250, number%250)
}

var start, startAt = monotonic(), time.Now()

// Returns microseconds of the kernel's monotonic clock, which is read once; Go's clock continues from there without
// system calls.
func now() int64 {
	return start + time.Since(startAt).Microseconds()
}

func monotonic() int64 {
	var time unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &time); err != nil {
		log.Fatal(err)
	}
	return time.Nano() / 1000
}

func tell(values map[string]any) {
	line, err := json.Marshal(values)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func waitForTheEnd() {
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}
