// The same events into immudb, for comparison: a server in this process, one client over loopback, batches as large as asked for.
//
// Reads one event a line from standard input and prints how many seconds it took, and how many events there were.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/codenotary/immudb/pkg/api/schema"
	"github.com/codenotary/immudb/pkg/client"
	"github.com/codenotary/immudb/pkg/server"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: immudb FOLDER BATCH < EVENTS")
	}
	batch, err := strconv.Atoi(os.Args[2])
	check(err)
	port := start(os.Args[1])
	took, count := store(port, events(), batch)
	fmt.Printf("%.6f %d\n", took.Seconds(), count)
	os.Exit(0)
}

// start runs a server on a free port of the loopback, with nothing but its gRPC.
func start(folder string) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	port := listener.Addr().(*net.TCPAddr).Port
	options := server.DefaultOptions().WithDir(folder).WithAddress("127.0.0.1").WithPort(port).WithListener(listener).
		WithMetricsServer(false).WithWebServer(false).WithPgsqlServer(false).WithLogfile(folder + "/immudb.log")
	running := server.DefaultServer().WithOptions(options).(*server.ImmuServer)
	check(running.Initialize())
	go func() { check(running.Start()) }()
	return port
}

func events() [][]byte {
	var found [][]byte
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 1<<20)
	for lines.Scan() {
		found = append(found, append([]byte(nil), lines.Bytes()...))
	}
	check(lines.Err())
	return found
}

func store(port int, events [][]byte, batch int) (time.Duration, int) {
	ctx := context.Background()
	db := client.NewClient().WithOptions(client.DefaultOptions().WithAddress("127.0.0.1").WithPort(port).WithDir(os.Args[1]))
	check(db.OpenSession(ctx, []byte("immudb"), []byte("immudb"), "defaultdb"))
	began := time.Now()
	for first := 0; first < len(events); first += batch {
		last := min(first+batch, len(events))
		pairs := make([]*schema.KeyValue, 0, last-first)
		for n, event := range events[first:last] {
			pairs = append(pairs, &schema.KeyValue{Key: []byte(fmt.Sprintf("leaf:%012d", first+n)), Value: event})
		}
		_, err := db.SetAll(ctx, &schema.SetRequest{KVs: pairs})
		check(err)
	}
	return time.Since(began), len(events)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
