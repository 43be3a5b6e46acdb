package httplink_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/wait"
)

func TestMalformedReports(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	batches := collect(t, s.newHub(t), nil)
	const good = `{"v":1,"endpoint":"web-1","goodbye":{}}`
	for _, tt := range []struct {
		body   string
		status int
	}{
		{``, http.StatusBadRequest},
		{` `, http.StatusBadRequest},
		{`[`, http.StatusBadRequest},
		{`[` + good, http.StatusBadRequest},
		{`[` + good + `,]`, http.StatusBadRequest},
		{`[` + good + `]x`, http.StatusBadRequest},
		{good + "\n" + `{"v":1,`, http.StatusBadRequest},
		{`null`, http.StatusBadRequest},
		{`1`, http.StatusBadRequest},
		{`"text"`, http.StatusBadRequest},
		{`[null]`, http.StatusBadRequest},
		{`[1]`, http.StatusBadRequest},
		{`[[]]`, http.StatusBadRequest},
		{`[{}]`, http.StatusBadRequest},
		{`{"v":1,"endpoint":"web-1"}`, http.StatusBadRequest},
		{`{"v":"1","endpoint":"web-1","goodbye":{}}`, http.StatusBadRequest},
		{`{"v":1,"endpoint":"web-1","update":[]}`, http.StatusBadRequest},
		{`{"v":1,"endpoint":"web-1","update":{"attempt":1.5}}`, http.StatusBadRequest},
		{`[` + good + `,{"v":1,"endpoint":"web-1","hello":7}]`, http.StatusBadRequest},
		{"\x00\xff", http.StatusBadRequest},
		{strings.Repeat("[", 20_000), http.StatusBadRequest},
		{`{"v":1,"goodbye":{}}`, http.StatusForbidden},
		{`{"v":1,"endpoint":"web-2","goodbye":{}}`, http.StatusForbidden},
		{`[` + good + `,{"v":1,"endpoint":"web-2","goodbye":{}}]`, http.StatusForbidden},
		{`[]`, http.StatusNoContent},
		{`{"v":3,"endpoint":"web-1","goodbye":{}}`, http.StatusNoContent},
		{`{"v":3,"endpoint":"web-1","goodbye":7}`, http.StatusNoContent},
	} {
		if got := s.post(t, "web-1", []byte(tt.body)); got != tt.status {
			t.Errorf("%.60q has the status %d, want %d", tt.body, got, tt.status)
		}
	}
	for _, body := range []string{good, good + "\n" + good + "\n", good + good, " [\n" + good + " , " + good + "] "} {
		before := 0
		for _, b := range batches() {
			before += len(b)
		}
		if got := s.post(t, "web-1", []byte(body)); got != http.StatusNoContent {
			t.Errorf("%q has the status %d", body, got)
		}
		after := 0
		for _, b := range batches() {
			after += len(b)
		}
		if want := strings.Count(body, "goodbye"); after-before != want {
			t.Errorf("%q: %d reports delivered, want %d", body, after-before, want)
		}
	}
	if n := len(batches()); n != 4 {
		t.Errorf("%d batches: a malformed report was delivered", n)
	}
}

func TestSizesOfReports(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	s := newServer(t)
	batches := collect(t, s.newHub(t), nil)
	good := reports(t, update("web-1", 1))
	body := func(size int) []byte { return append(good, bytes.Repeat([]byte(" "), size-len(good))...) }
	if got := s.post(t, "web-1", body(limit)); got != http.StatusNoContent {
		t.Errorf("%d bytes have the status %d", limit, got)
	}
	// A body with a too large Content-Length is not read.
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /agent/v1/reports HTTP/1.1\r\nHost: x\r\nTasker-Endpoint: web-1\r\nTasker-Instance: i\r\nContent-Length: %d\r\n\r\n", limit+1)
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(line, " 413 ") {
		t.Errorf("%d bytes have the response %s, %v", limit+1, line, err)
	}
	// A body without a Content-Length.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/agent/v1/reports", io.MultiReader(bytes.NewReader(body(limit+1))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Tasker-Endpoint", "web-1")
	req.Header.Set("Tasker-Instance", "i")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of more than %d bytes has the status %d", limit, resp.StatusCode)
	}
	if n := len(batches()); n != 1 {
		t.Errorf("%d batches delivered, want 1", n)
	}
}

// TestPostsAreStoredTogether posts while a batch is being stored. It cannot observe that the
// posts wait, so it repeats the round until they are stored together.
func TestPostsAreStoredTogether(t *testing.T) {
	t.Parallel()
	const posts = 60
	s := newServer(t)
	var arrived, stored atomic.Int32
	type round struct {
		began sync.Once
		all   chan struct{} // closed when all posts have arrived
	}
	var now atomic.Pointer[round]
	batches := collect(t, s.newHub(t), func(batch []tasker.Report) error {
		r := now.Load()
		r.began.Do(func() { <-r.all })
		stored.Add(int32(len(batch)))
		return nil
	})
	hub := *s.handler.Load()
	var counting http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := arrived.Add(1); n%posts == 0 {
			close(now.Load().all)
		}
		hub.ServeHTTP(w, r)
	})
	s.handler.Store(&counting)
	wait.For(t, "posts to be stored together", func() bool {
		batchesBefore, storedBefore := len(batches()), stored.Load()
		now.Store(&round{all: make(chan struct{})})
		var posting sync.WaitGroup
		for i := range posts {
			posting.Go(func() {
				name := fmt.Sprint("web-", i)
				if got := s.post(t, name, reports(t, update(name, i))); got != http.StatusNoContent {
					t.Errorf("status %d", got)
				}
				if stored.Load() == storedBefore {
					t.Error("a POST returned before its reports were stored")
				}
			})
		}
		posting.Wait()
		if n := stored.Load() - storedBefore; n != posts {
			t.Errorf("%d of %d reports stored", n, posts)
		}
		return len(batches())-batchesBefore <= posts/2
	})
}

// TestHeartbeatsAreStoredTogether sends heartbeats one after the other to an immediate store,
// so that only the delay of heartbeats can batch them. On a busy machine they may arrive too
// late for that.
func TestHeartbeatsAreStoredTogether(t *testing.T) {
	t.Parallel()
	const beats = 20
	s := newServer(t)
	batches := collect(t, s.newHub(t), nil)
	arrived := make(chan struct{})
	hub := *s.handler.Load()
	var notifying http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		hub.ServeHTTP(w, r)
	})
	s.handler.Store(&notifying)
	wait.For(t, "heartbeats to be stored together", func() bool {
		before := len(batches())
		var posting sync.WaitGroup
		for i := range beats {
			name := fmt.Sprint("web-", i)
			beat := hello(name, "ping")
			beat.Heartbeat, beat.Hello = &tasker.Heartbeat{Presence: beat.Hello.Presence}, nil
			posting.Go(func() {
				if got := s.post(t, name, reports(t, beat)); got != http.StatusNoContent {
					t.Errorf("status %d", got)
				}
			})
			<-arrived
		}
		posting.Wait()
		return len(batches())-before <= beats/4
	})
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	batches := collect(t, s.newHub(t), nil)
	var posting sync.WaitGroup
	total := 0
	for i, n := range []int{1500, 150, 99, 101, 1, 1, 1, 200} {
		total += n
		posting.Go(func() {
			name := fmt.Sprint("web-", i)
			rs := make([]tasker.Report, n)
			for j := range rs {
				rs[j] = update(name, j)
			}
			if got := s.post(t, name, reports(t, rs...)); got != http.StatusNoContent {
				t.Errorf("status %d", got)
			}
		})
	}
	posting.Wait()
	n, next := 0, map[string]int{}
	for _, b := range batches() {
		n += len(b)
		if len(b) > 200 {
			t.Errorf("a batch has %d reports, want at most 200", len(b))
		}
		for _, r := range b {
			if want := fmt.Sprint("task-", next[r.Endpoint]); r.Update.TaskID != want {
				t.Fatalf("report %s of %s, want %s", r.Update.TaskID, r.Endpoint, want)
			}
			next[r.Endpoint]++
		}
	}
	if n != total {
		t.Errorf("%d reports delivered, want %d", n, total)
	}
}
