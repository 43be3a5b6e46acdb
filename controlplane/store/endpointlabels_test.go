package store_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/controlplane/store"
	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// labelledToken stores an enrolment token whose endpoints get the labels.
func (f *fixture) labelledToken(t *testing.T, secret string, labels map[string]string) {
	t.Helper()
	_, err := f.CreateEnrolToken(t.Context(), tasker.EnrolToken{ID: "id-of-" + secret, MaxUses: 5, Labels: labels}, digest(secret), time.Hour)
	must(t, err)
}

// wantLabels checks an endpoint's labels and claimed labels, alone and in the list.
func (f *fixture) wantLabels(t *testing.T, name string, labels, claimed map[string]string) {
	t.Helper()
	e, err := f.Endpoint(t.Context(), name)
	must(t, err)
	listed := e
	list, err := f.Endpoints(t.Context(), 100, "")
	must(t, err)
	for _, l := range list {
		if l.Name == name {
			listed = l
		}
	}
	for from, e := range map[string]tasker.Endpoint{"endpoint": e, "list": listed} {
		if !maps.Equal(e.Labels, labels) || !maps.Equal(e.ClaimedLabels, claimed) || e.Presence.Labels != nil {
			t.Errorf("%s: %s has the labels %v and claims %v (presence %v); want %v and %v", from, name, e.Labels, e.ClaimedLabels, e.Presence.Labels, labels, claimed)
		}
	}
}

// claiming is a hello that claims labels.
func claiming(endpoint, session string, labels map[string]string) tasker.Report {
	r := hello(endpoint, session)
	r.Hello.Labels = labels
	return r
}

func TestLabelsOfAnEnrolledEndpointAreBoundByItsToken(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		web, claim := map[string]string{"role": "web"}, map[string]string{"role": "db", "zone": "a"}
		f.labelledToken(t, "web", web)
		f.labelledToken(t, "none", nil)
		for name, token := range map[string]string{"web-1": "web", "db-1": "none"} {
			_, err := f.Enrol(t.Context(), digest(token), name, digest("secret of "+name))
			must(t, err)
		}
		f.wantLabels(t, "web-1", web, nil)
		f.apply(t, claiming("web-1", "s", claim), claiming("db-1", "s", claim))
		f.wantLabels(t, "web-1", web, claim)
		f.wantLabels(t, "db-1", nil, claim)
		heartbeat := tasker.Report{Endpoint: "web-1", Instance: "i", Heartbeat: &tasker.Heartbeat{Presence: tasker.Presence{Labels: map[string]string{"role": "any"}}}}
		f.apply(t, heartbeat)
		f.wantLabels(t, "web-1", web, map[string]string{"role": "any"})
		tokens, err := f.EnrolTokens(t.Context(), 10)
		must(t, err)
		if len(tokens) != 2 || !maps.Equal(tokens[0].Labels, web) || tokens[1].Labels != nil {
			t.Errorf("the tokens are %+v", tokens)
		}
	})
}

func TestAnEnrolmentReplacesAllLabelsOfTheName(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.labelledToken(t, "web", map[string]string{"role": "web"})
		_, err := f.Enrol(t.Context(), digest("web"), "web-1", digest("s1"))
		must(t, err)
		must(t, f.LabelEndpoint(t.Context(), "web-1", map[string]string{"zone": "a"}, nil))
		f.wantLabels(t, "web-1", map[string]string{"role": "web", "zone": "a"}, nil)
		// The repetition of an enrolment whose answer was lost is no enrolment.
		_, err = f.Enrol(t.Context(), digest("web"), "web-1", digest("s1"))
		must(t, err)
		f.wantLabels(t, "web-1", map[string]string{"role": "web", "zone": "a"}, nil)
		_, err = f.RevokeEndpoint(t.Context(), "web-1", "")
		must(t, err)
		f.Add(time.Second)
		f.labelledToken(t, "db", map[string]string{"role": "db"})
		_, err = f.Enrol(t.Context(), digest("db"), "web-1", digest("s2"))
		must(t, err)
		f.wantLabels(t, "web-1", map[string]string{"role": "db"}, nil)
	})
}

func TestLabelsOfAnEndpointWithoutEnrolmentAreItsClaimAndThoseOfAnAdmin(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		claim := map[string]string{"role": "web", "zone": "a"}
		f.apply(t, claiming("web-1", "s", claim))
		f.wantLabels(t, "web-1", claim, claim)
		must(t, f.LabelEndpoint(t.Context(), "web-1", map[string]string{"zone": "b"}, nil))
		f.wantLabels(t, "web-1", map[string]string{"role": "web", "zone": "b"}, claim)
	})
}

func TestTrustedAgentLabelsCountForEnrolledEndpoints(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.labelledToken(t, "web", map[string]string{"role": "web"})
		_, err := f.Enrol(t.Context(), digest("web"), "web-1", digest("s1"))
		must(t, err)
		claim := map[string]string{"role": "db", "zone": "a"}
		f.apply(t, claiming("web-1", "s", claim))
		o := f.options
		o.TrustAgentLabels = true
		trusting := &fixture{clock: f.clock, Store: storetest.Open(t, o)}
		trusting.wantLabels(t, "web-1", map[string]string{"role": "web", "zone": "a"}, claim)
		f.wantLabels(t, "web-1", map[string]string{"role": "web"}, claim)
	})
}

func TestLabelEndpoint(t *testing.T) {
	each(t, func(t *testing.T, f *fixture) {
		f.labelledToken(t, "t", nil)
		_, err := f.Enrol(t.Context(), digest("t"), "web-1", digest("s1"))
		must(t, err)
		many := map[string]string{}
		for i := range tasker.MaxLabels {
			many[fmt.Sprint("n", i)] = ""
		}
		steps := []struct {
			name, endpoint string
			set            map[string]string
			remove         []string
			err            error
			want           map[string]string
		}{
			{"add", "web-1", map[string]string{"role": "web", "zone": "a"}, nil, nil, map[string]string{"role": "web", "zone": "a"}},
			{"replace and remove", "web-1", map[string]string{"role": "db"}, []string{"zone", "unknown"}, nil, map[string]string{"role": "db"}},
			{"invalid name", "web-1", map[string]string{"a b": "1"}, nil, store.ErrLabels, map[string]string{"role": "db"}},
			{"invalid value", "web-1", map[string]string{"a": strings.Repeat("x", 256)}, nil, store.ErrLabels, map[string]string{"role": "db"}},
			{"too many", "web-1", many, nil, store.ErrLabels, map[string]string{"role": "db"}},
			{"as many as allowed", "web-1", many, []string{"role"}, nil, many},
			{"unknown endpoint", "web-2", map[string]string{"role": "web"}, nil, store.ErrNotFound, many},
		}
		for _, s := range steps {
			if err := f.LabelEndpoint(t.Context(), s.endpoint, s.set, s.remove); !errors.Is(err, s.err) {
				t.Errorf("%s: %v, want %v", s.name, err, s.err)
			}
			f.wantLabels(t, "web-1", s.want, nil)
		}
	})
}
