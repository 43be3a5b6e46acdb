package hosts

import (
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/MatthiasWiesner/tasker/controlplane/store/storetest"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/rabbitmqtest"
)

// skipUnlessEnabled skips a test unless the host tests are enabled.
func skipUnlessEnabled(t *testing.T) {
	t.Helper()
	if os.Getenv("TASKER_TEST_HOSTS") != "1" {
		t.Skip("left out: services on servers with systemd; `make test-hosts` runs it, as root")
	}
}

// topology is the database and the transport of a fleet, as sections of the control plane's
// configuration.
type topology struct {
	plane string
	// agent has further lines of the agents' configuration.
	agent string
	// ports are ports of this machine that hosts must reach. With them, the control plane
	// must be initialized.
	ports []string
}

// overHTTP is HTTP and SQLite.
func overHTTP() topology {
	return topology{
		plane: `database: {uri: "sqlite:tasker.db"}`,
	}
}

// overRabbitMQ is RabbitMQ and MySQL, on the servers of the other tests on this machine.
func overRabbitMQ(t *testing.T) topology {
	t.Helper()
	skipUnlessEnabled(t)
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
	on := topology{
		plane: fmt.Sprintf("database: {uri: %q}\nmessage_queue: {uri: %q}\nrabbitmq: {apiurl: %q, username: %q, password: %q}\nallow_plain_text: true",
			bridged(db.URI), amqp, bridged(broker.APIURL), broker.Username, broker.Password),
	}
	on.ports, on.agent = ports, "allow_plain_text: true\n"
	return on
}
