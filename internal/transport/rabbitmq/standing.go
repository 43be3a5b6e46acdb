package rabbitmq

import (
	"sync"

	"github.com/MatthiasWiesner/tasker/internal/transport"
)

// standing makes one word for the observer out of several parts that must all
// be well: connections, the queue, the flow.
type standing struct {
	observer transport.Observer

	mu    sync.Mutex
	parts map[string]error // nil: well; a part not yet heard of has no entry
	want  []string
	said  bool
	last  error
}

func newStanding(observer transport.Observer, parts ...string) *standing {
	return &standing{observer: observer, want: parts, parts: map[string]error{}}
}

// tell returns what tells the observer about one part.
func (s *standing) tell(part string) func(error) {
	return func(err error) { s.set(part, err) }
}

func (s *standing) set(part string, err error) {
	if s.observer == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[part] = err
	now, known := error(nil), true
	for _, p := range s.want {
		err, ok := s.parts[p]
		known = known && ok
		if now == nil {
			now = err
		}
	}
	if now == nil && (!known || s.said && s.last == nil) {
		return
	}
	s.said, s.last = true, now
	s.observer(now)
}
