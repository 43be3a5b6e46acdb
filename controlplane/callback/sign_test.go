package callback

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
)

// The example is from the libraries of Standard Webhooks.
func TestSign(t *testing.T) {
	t.Parallel()
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	must(t, err)
	got := Key{secret}.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestLoadKey_same_and_hidden(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t, storetest.SQLite(t))
	first, err := LoadKey(t.Context(), s)
	must(t, err)
	second, err := LoadKey(t.Context(), s)
	must(t, err)
	if first.Reveal() != second.Reveal() || len(first.Reveal()) != len("whsec_")+44 {
		t.Errorf("%s and %s", first.Reveal(), second.Reveal())
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, struct{ Key Key }{first}); !strings.Contains(text, "whsec_***") {
			t.Errorf("%s shows %s", format, text)
		}
	}
}
