package identity

import (
	"strings"
	"testing"
)

func TestHostNameOfNoServerIsRefused(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"", "(none)", "localhost", "LOCALHOST", "localhost.localdomain", "localhost4.localdomain4", "localhost6", "localhost.example.net", "web_1!", strings.Repeat("a", 129),
	} {
		if name, err := endpointName(host); err == nil || !strings.Contains(err.Error(), "--endpoint NAME") {
			t.Errorf("host name %q: %q, %v", host, name, err)
		}
	}
	for host, want := range map[string]string{"Web-1": "web-1", "web-1.example.net": "web-1.example.net", "localhost-1": "localhost-1", "my.localhost": "my.localhost"} {
		if name, err := endpointName(host); err != nil || name != want {
			t.Errorf("host name %q: %q, %v", host, name, err)
		}
	}
}
