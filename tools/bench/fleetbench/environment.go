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

// The default servers.
const (
	DefaultRabbitMQ = "http://guest:guest@127.0.0.1:15672/api"
	DefaultAMQP     = "127.0.0.1:5672"
	DefaultMySQL    = "mysql://root@127.0.0.1:3306"
)

// environment is what one run needs: a directory and, over RabbitMQ, a vhost, its user
// and a database.
type environment struct {
	name string
	dir  string
	http bool

	broker *management.Client
	amqp   string // the URI of the vhost

	server    *mysql.Config
	mysqlAddr string
	dsn       string // for database/sql
}

// prepare creates the environment of a run.
func prepare(ctx context.Context, o Options, name string) (*environment, error) {
	env := &environment{name: name, http: o.HTTP}
	var err error
	if env.dir, err = os.MkdirTemp(memoryDir(), name); err != nil {
		return nil, fmt.Errorf("create a directory: %w", err)
	}
	if o.HTTP {
		return env, nil
	}
	err = env.prepareDatabase(ctx, cmp.Or(o.MySQL, DefaultMySQL))
	if err == nil {
		err = env.prepareBroker(ctx, cmp.Or(o.RabbitMQ, DefaultRabbitMQ), cmp.Or(o.AMQP, DefaultAMQP))
	}
	if err != nil {
		return nil, errors.Join(err, env.remove(ctx))
	}
	return env, nil
}

// memoryDir returns a directory in memory, if there is one. Each real agent has a disk of
// its own; thousands of journals on one disk would measure that disk.
func memoryDir() string {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err == nil && info.IsDir() {
		return shm
	}
	return os.TempDir()
}

func (env *environment) prepareDatabase(ctx context.Context, server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "mysql" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("the database server must be mysql://USER:PASSWORD@HOST:PORT, without a database")
	}
	env.server, env.mysqlAddr = mysql.NewConfig(), u.Host
	env.server.Net, env.server.Addr, env.server.User, env.server.InterpolateParams = "tcp", u.Host, u.User.Username(), true
	env.server.Passwd, _ = u.User.Password()
	if err := env.onServer(ctx, "CREATE DATABASE `"+env.name+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return fmt.Errorf("create a database at %s: %w", u.Host, err)
	}
	own := env.server.Clone()
	own.DBName = env.name
	env.dsn = own.FormatDSN()
	return nil
}

// onServer runs a statement outside the run's database.
func (env *environment) onServer(ctx context.Context, statement string) error {
	db, err := sql.Open("mysql", env.server.FormatDSN())
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	return errors.Join(err, db.Close())
}

func (env *environment) prepareBroker(ctx context.Context, api, address string) error {
	u, err := url.Parse(api)
	if err != nil || u.User == nil {
		return errors.New("the broker's API must be http://USER:PASSWORD@HOST:PORT/api")
	}
	user := u.User.Username()
	password, _ := u.User.Password()
	u.User = nil
	if env.broker, err = management.NewClient(u.String(), user, password); err != nil {
		return err
	}
	own := url.URL{Scheme: "amqp", User: url.UserPassword(env.name, uuid.NewString()), Host: address, Path: "/" + env.name}
	env.amqp = own.String()
	return management.Initialize(ctx, management.Options{
		APIURL: u.String(), Username: user, Password: password, URI: env.amqp,
		Types: []tasker.TaskType{{Name: taskType, Handler: taskType}}, Log: slog.New(slog.DiscardHandler),
	})
}

// removeTimeout limits the removal of everything.
const removeTimeout = 5 * time.Minute

// remove removes the environment, also when ctx is done.
func (env *environment) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	err := os.RemoveAll(env.dir)
	if env.broker != nil {
		for _, kind := range []string{"vhosts", "users"} {
			if e := env.removeFromBroker(ctx, kind); e != nil {
				err = errors.Join(err, fmt.Errorf("remove %s from %s of the broker: %w", env.name, kind, e))
			}
		}
		env.broker.CloseIdle()
	}
	if env.dsn != "" {
		if e := env.onServer(ctx, "DROP DATABASE IF EXISTS `"+env.name+"`"); e != nil {
			err = errors.Join(err, fmt.Errorf("drop database %s: %w", env.name, e))
		}
	}
	return err
}

// removeFromBroker removes the vhost or the user. It retries after a timeout, since the
// broker takes a while to remove thousands of queues.
func (env *environment) removeFromBroker(ctx context.Context, kind string) error {
	for {
		err := env.broker.Call(ctx, http.MethodDelete, nil, nil, kind, env.name)
		var timeout net.Error
		switch {
		case errors.Is(err, management.ErrNotFound):
			return nil
		case errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() == nil:
			continue
		}
		return err
	}
}

func (env *environment) transport() string {
	if env.http {
		return "http"
	}
	return "amqp"
}

func (env *environment) database() string {
	if env.http {
		return "sqlite"
	}
	return "mysql"
}

// databaseURI returns the URI for the control plane's configuration.
func (env *environment) databaseURI() string {
	if env.http {
		return "sqlite:tasker.db"
	}
	u := url.URL{Scheme: "mysql", User: url.User(env.server.User), Host: env.mysqlAddr, Path: "/" + env.name}
	if env.server.Passwd != "" {
		u.User = url.UserPassword(env.server.User, env.server.Passwd)
	}
	return u.String()
}

func (env *environment) path(name string) string { return filepath.Join(env.dir, name) }

// freePort returns a port of 127.0.0.1 that is currently free.
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
