package hosts

import (
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

// wanted skips a test unless it was asked for.
func wanted(t *testing.T) {
	t.Helper()
	if os.Getenv("TASKER_TEST_HOSTS") != "1" {
		t.Skip("left out: services on servers with systemd; `make test-hosts` runs it, as root")
	}
}

// fabric is what a fleet stands on: sections of the control plane's configuration.
type fabric struct {
	plane string
	// ports of this machine that hosts have to reach; then there is something to
	// initialize too.
	ports []string
}

// overHTTP needs nothing else.
func overHTTP() fabric {
	return fabric{
		plane: `database: {uri: "sqlite:tasker.db"}`,
	}
}

// overRabbitMQ uses the servers that the other tests use, on this machine.
func overRabbitMQ(t *testing.T) fabric {
	t.Helper()
	wanted(t)
	broker, db := rabbitmqtest.New(t), storetest.MySQL(t)
	var ports []string
	bridged := func(uri string) string {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, u.Port())
		u.Host = "gateway:" + u.Port()
		return u.String()
	}
	amqp := bridged(broker.URI)
	on := fabric{
		plane: fmt.Sprintf("database: {uri: %q}\nmessage_queue: {uri: %q}\nrabbitmq: {apiurl: %q, username: %q, password: %q}",
			bridged(db.URI), amqp, bridged(broker.APIURL), broker.Username, broker.Password),
	}
	on.ports = ports
	return on
}
