package httplink_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/httplink"
)

// dial opens the streams of n agents that have sent a hello. The caller reads the
// connections.
func (s *server) dial(b *testing.B, n int) []net.Conn {
	b.Helper()
	conns := make([]net.Conn, n)
	for i := range conns {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		conns[i] = conn
		fmt.Fprintf(conn, "GET /agent/v1/orders HTTP/1.1\r\nHost: x\r\nTasker-Endpoint: web-%d\r\nTasker-Instance: journal-of-web-%d\r\n\r\n", i, i)
		if _, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil {
			b.Fatal(err)
		}
		name := fmt.Sprint("web-", i)
		if status := s.post(b, name, reports(b, hello(name, "ping"))); status != http.StatusNoContent {
			b.Fatalf("hello has the status %d", status)
		}
	}
	return conns
}

func BenchmarkSend1000OrdersTo100Streams(b *testing.B) {
	s := newServer(b)
	hub := s.newHub(b)
	collect(b, hub, nil)
	var reading sync.WaitGroup
	defer reading.Wait()
	conns := s.dial(b, 100)
	for _, conn := range conns {
		reading.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		defer conn.Close()
	}
	orders := make([]tasker.Order, 1000)
	for i := range orders {
		orders[i] = assignment(fmt.Sprint("web-", i%100), i)
	}
	for b.Loop() {
		if err := hub.Send(b.Context(), orders...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPost1000Reports posts them one by one, to a store that commits a
// batch immediately, and to a store as slow as a disk.
func BenchmarkPost1000Reports(b *testing.B) {
	for _, commit := range []time.Duration{0, 5 * time.Millisecond} {
		b.Run(fmt.Sprint("commit=", commit), func(b *testing.B) { postReports(b, commit) })
	}
}

func postReports(b *testing.B, commit time.Duration) {
	s := newServer(b)
	batches := collect(b, s.newHub(b), func([]tasker.Report) error {
		if commit > 0 {
			<-time.After(commit)
		}
		return nil
	})
	const agents = 50
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: agents}}
	b.Cleanup(client.CloseIdleConnections)
	for b.Loop() {
		var posting sync.WaitGroup
		for a := range agents {
			name := fmt.Sprint("web-", a)
			body := reports(b, update(name, 1))
			posting.Go(func() {
				for range 1000 / agents {
					req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, s.url+"/agent/v1/reports", bytes.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					req.Header.Set("Tasker-Endpoint", name)
					req.Header.Set("Tasker-Instance", "i")
					resp, err := client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusNoContent {
						b.Errorf("status %d", resp.StatusCode)
					}
				}
			})
		}
		posting.Wait()
	}
	n := 0
	for _, batch := range batches() {
		n += len(batch)
	}
	b.ReportMetric(float64(n)/float64(len(batches())), "reports/batch")
}

// BenchmarkIdleStream measures the memory of an idle stream, including the client's end of
// the connection.
func BenchmarkIdleStream(b *testing.B) {
	const n = 2000
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for b.Loop() {
		s := newServer(b)
		hub := s.newHub(b, func(o *httplink.HubOptions) { o.Keepalive = 0 })
		collect(b, hub, nil)

		before := inUse()
		conns := s.dial(b, n)
		b.ReportMetric(float64(inUse()-before)/n/1024, "KiB/stream")
		for _, conn := range conns {
			conn.Close()
		}
		closeConn(b, hub)
	}
}
