package fleetbench

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"

	"github.com/MatthiasWiesner/tasker"
	"github.com/MatthiasWiesner/tasker/internal/transport/rabbitmq/management"
)

// taskType is the type of the tasks, and the name of their handler.
const taskType = "bench"

// The servers that are used unless others are named.
const (
	DefaultRabbitMQ = "http://guest:guest@127.0.0.1:15672/api"
	DefaultAMQP     = "127.0.0.1:5672"
	DefaultMySQL    = "mysql://root@127.0.0.1:3306"
)

// ground is what was made for one run.
type ground struct {
	name string
	dir  string
	http bool

	broker *management.Client
	amqp   string // the URI of the vhost

	server    *mysql.Config
	mysqlAddr string
	dsn       string // for database/sql
}

// prepare makes a directory and, unless it is for HTTP, a vhost, its user, and a
// database.
func prepare(ctx context.Context, o Options, name string) (*ground, error) {
	g := &ground{name: name, http: o.HTTP}
	var err error
	if g.dir, err = os.MkdirTemp(memory(), name); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if o.HTTP {
		return g, nil
	}
	err = g.prepareDatabase(ctx, cmp.Or(o.MySQL, DefaultMySQL))
	if err == nil {
		err = g.prepareBroker(ctx, cmp.Or(o.RabbitMQ, DefaultRabbitMQ), cmp.Or(o.AMQP, DefaultAMQP))
	}
	if err != nil {
		return nil, errors.Join(err, g.remove(ctx))
	}
	return g, nil
}

// memory is where files lie in memory: each real agent has a disk of its own, and
// thousands of journals on one would measure that disk.
func memory() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return os.TempDir()
}

func (g *ground) prepareDatabase(ctx context.Context, server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "mysql" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("the database server is to be written as mysql://USER:PASSWORD@HOST:PORT, without a database")
	}
	g.server, g.mysqlAddr = mysql.NewConfig(), u.Host
	g.server.Net, g.server.Addr, g.server.User, g.server.InterpolateParams = "tcp", u.Host, u.User.Username(), true
	g.server.Passwd, _ = u.User.Password()
	if err := g.onServer(ctx, "CREATE DATABASE `"+g.name+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return fmt.Errorf("make a database at %s: %w", u.Host, err)
	}
	own := g.server.Clone()
	own.DBName = g.name
	g.dsn = own.FormatDSN()
	return nil
}

// onServer runs a statement outside of the run's database.
func (g *ground) onServer(ctx context.Context, statement string) error {
	db, err := sql.Open("mysql", g.server.FormatDSN())
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

func (g *ground) prepareBroker(ctx context.Context, api, address string) error {
	u, err := url.Parse(api)
	if err != nil || u.User == nil {
		return errors.New("the broker's API is to be written as http://USER:PASSWORD@HOST:PORT/api")
	}
	user := u.User.Username()
	password, _ := u.User.Password()
	u.User = nil
	if g.broker, err = management.NewClient(u.String(), user, password); err != nil {
		return err
	}
	own := url.URL{Scheme: "amqp", User: url.UserPassword(g.name, uuid.NewString()), Host: address, Path: "/" + g.name}
	g.amqp = own.String()
	return management.Initialize(ctx, management.Options{
		APIURL: u.String(), Username: user, Password: password, URI: g.amqp,
		Types: []tasker.TaskType{{Name: taskType, Handler: taskType}}, Log: slog.New(slog.DiscardHandler),
	})
}

// removal is how long it may take to remove everything.
const removal = 5 * time.Minute

// remove takes away what was made, also when ctx is done.
func (g *ground) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	err := os.RemoveAll(g.dir)
	if g.broker != nil {
		for _, kind := range []string{"vhosts", "users"} {
			if e := g.removeFromBroker(ctx, kind); e != nil {
				err = errors.Join(err, fmt.Errorf("remove %s from %s of the broker: %w", g.name, kind, e))
			}
		}
		g.broker.CloseIdle()
	}
	if g.dsn != "" {
		if e := g.onServer(ctx, "DROP DATABASE IF EXISTS `"+g.name+"`"); e != nil {
			err = errors.Join(err, fmt.Errorf("drop database %s: %w", g.name, e))
		}
	}
	return err
}

// removeFromBroker removes the vhost or the user, again as long as there is no
// answer: it takes the broker a while to remove thousands of queues.
func (g *ground) removeFromBroker(ctx context.Context, kind string) error {
	for {
		err := g.broker.Call(ctx, http.MethodDelete, nil, nil, kind, g.name)
		var late net.Error
		switch {
		case errors.Is(err, management.ErrNotFound):
			return nil
		case errors.As(err, &late) && late.Timeout() && ctx.Err() == nil:
			continue
		}
		return err
	}
}

func (g *ground) transport() string {
	if g.http {
		return "http"
	}
	return "amqp"
}

func (g *ground) database() string {
	if g.http {
		return "sqlite"
	}
	return "mysql"
}

// databaseURI is as in the control plane's configuration.
func (g *ground) databaseURI() string {
	if g.http {
		return "sqlite:tasker.db"
	}
	u := url.URL{Scheme: "mysql", User: url.User(g.server.User), Host: g.mysqlAddr, Path: "/" + g.name}
	if g.server.Passwd != "" {
		u.User = url.UserPassword(g.server.User, g.server.Passwd)
	}
	return u.String()
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

// freePort returns a port of 127.0.0.1 that is free at this moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return strconv.Atoi(port)
}
