package callback

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
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

func TestKeyIsHidden(t *testing.T) {
	t.Parallel()
	first := NewKey(make([]byte, 32))
	if got, want := first.Reveal(), "whsec_"+strings.Repeat("A", 43)+"="; got != want {
		t.Errorf("the key is %s, want %s", got, want)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, struct{ Key Key }{first}); !strings.Contains(text, "whsec_***") {
			t.Errorf("%s shows %s", format, text)
		}
	}
}
