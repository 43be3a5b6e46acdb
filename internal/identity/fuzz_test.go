package identity_test

import (
	"crypto/ed25519"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/identity"
)

// An identity that is accepted has a valid name, a valid URI and usable keys.
func FuzzLoad(f *testing.F) {
	good := fmt.Sprintf(`{"endpoint":"web-1","control_plane":"https://cp:8888","server":"amqps://mq:5671/tasker","secret":"%s","keys":["%s="]}`,
		strings.Repeat("S", 43), strings.Repeat("A", 43))
	for _, seed := range []string{
		good, good[:60], good + good,
		strings.Replace(good, "{", `{"ca":"x",`, 1),
		strings.Replace(good, "amqps://mq:5671/tasker", "https://cp:8888", 1),
		strings.Replace(good, "amqps://", "amqps://user@", 1),
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(identity.File(dir), content, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := identity.Load(dir)
		if err != nil {
			return
		}
		if err := tasker.ValidateEndpoint(i.Endpoint); err != nil {
			t.Error(err)
		}
		if _, err := url.Parse(i.URI()); err != nil {
			t.Errorf("the server has no valid URI: %v", err)
		}
		if len(i.Keys) == 0 {
			t.Error("an identity without keys was accepted")
		}
		for _, key := range i.Keys {
			if len(key) != ed25519.PublicKeySize {
				t.Errorf("a key has %d bytes", len(key))
			}
		}
	})
}
