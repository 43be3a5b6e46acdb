package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"
)

func mysqlDialect() *dialect {
	return &dialect{
		name:  "mysql",
		goose: goose.DialectMySQL,
		Syntax: Syntax{
			ForUpdate:    " FOR UPDATE",
			SkipLocked:   " FOR UPDATE SKIP LOCKED",
			UseIndex:     func(index string) string { return " FORCE INDEX (" + index + ")" },
			StraightJoin: " STRAIGHT_JOIN ",
		},
		onConflict: func(key, columns []string) string {
			if len(columns) == 0 {
				return " ON DUPLICATE KEY UPDATE " + key[0] + "=" + key[0]
			}
			sets := make([]string, len(columns))
			for i, c := range columns {
				sets[i] = c + "=" + mysqlOnly("new."+c) + mariaDBOnly("VALUES("+c+")")
			}
			// MySQL has deprecated VALUES(), and MariaDB has no row alias.
			return mysqlOnly(" AS new") + " ON DUPLICATE KEY UPDATE " + strings.Join(sets, ",")
		},
		now: func(ctx context.Context, c *Conn) (Micros, error) {
			var now Micros
			err := c.QueryRow(ctx, "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)", nil, &now)
			return now, err
		},
		classify:      classifyMySQL,
		snapshot:      sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		migrationLock: mysqlLock{},
	}
}

// mysqlOnly returns a part of a statement that MariaDB reads as a comment.
func mysqlOnly(sql string) string { return "/*!80019 " + sql + " */" }

// mariaDBOnly returns a part of a statement that MySQL reads as a comment.
func mariaDBOnly(sql string) string { return "/*M! " + sql + " */" }

// mysqlConfig reads mysql://user:password@host:port/database. No error shows
// the URI, because it holds the password.
func mysqlConfig(uri string) (*mysql.Config, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("database URI: not a URI; write mysql://user:password@host:port/database and percent-encode special characters of the password")
	}
	name := strings.TrimPrefix(u.Path, "/")
	if u.Host == "" || name == "" || strings.Contains(name, "/") {
		return nil, errors.New("database URI: host or database is missing; write mysql://user:password@host:port/database")
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.DBName = "tcp", u.Host, name
	if u.Port() == "" {
		cfg.Addr = net.JoinHostPort(u.Hostname(), "3306")
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	for key, values := range u.Query() {
		switch value := values[len(values)-1]; key {
		case "tls":
			cfg.TLSConfig = value
		case "socket":
			cfg.Net, cfg.Addr = "unix", value
		default:
			return nil, fmt.Errorf("database URI: parameter %q is unknown; use tls (true, skip-verify, preferred, false) or socket", key)
		}
	}
	cfg.Timeout = 5 * time.Second
	// One round trip per statement. The connection's character set is utf8mb4, for
	// which the driver's quoting is safe.
	cfg.InterpolateParams = true
	// After a fail-over the connection leaves the server that became read-only.
	cfg.RejectReadOnly = true
	cfg.Logger = &mysql.NopLogger{}
	cfg.Params = map[string]string{
		"time_zone":                "'+00:00'",
		"sql_mode":                 "'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
		"innodb_lock_wait_timeout": "10",
	}
	return cfg, nil
}

// mysqlIOTimeout is how long a server may take to respond to a statement. After
// it the connection counts as dead, for the server may have vanished. It is longer
// than any wait for a lock.
const mysqlIOTimeout = 30 * time.Second

func connectMySQL(uri string) (*DB, error) {
	cfg, err := mysqlConfig(uri)
	if err != nil {
		return nil, err
	}
	db := &DB{dialect: mysqlDialect()}
	if db.migrator, err = openMySQL(cfg); err != nil {
		return nil, err
	}
	db.migrator.SetMaxIdleConns(0)
	cfg.ReadTimeout, cfg.WriteTimeout = mysqlIOTimeout, mysqlIOTimeout
	if db.writer, err = openMySQL(cfg); err != nil {
		return nil, errors.Join(err, db.migrator.Close())
	}
	db.reader = db.writer
	return db, nil
}

func openMySQL(cfg *mysql.Config) (*sql.DB, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("database URI: %w", err)
	}
	db := sql.OpenDB(readCommitted{connector})
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	db.SetConnMaxLifetime(5 * time.Minute)
	return db, nil
}

// readCommitted sets the isolation READ COMMITTED on every connection: a statement
// sees what was committed before it, and searches lock no gaps; duplicate-key checks
// still do. It is not a parameter of the configuration because MySQL and MariaDB name that differently.
type readCommitted struct{ driver.Connector }

// Connect opens a connection and sets its isolation.
func (c readCommitted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if e, ok := conn.(driver.ExecerContext); ok {
		_, err = e.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// isNoSuchDatabase reports whether the server responded that it has no such database.
func isNoSuchDatabase(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && e.Number == 1049
}

func classifyMySQL(err error) errorClass {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		switch e.Number {
		case 1062: // duplicate key
			return classDuplicate
		case 1205, 1213, 1020: // lock wait timeout, deadlock, record changed since last read
			return classBusy
		case 1040, 1053, 1077, 1129, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1290, 1792, 1836, 1927, 3024, 1021, 1114, 3100, 1180:
			// too many connections, shutdown, blocked host, broken packets, read-only,
			// killed, disk full, commit failed
			return classUnavailable
		}
		return classOther
	}
	var n net.Error
	if errors.As(err, &n) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return classUnavailable
	}
	return classOther
}

// createMySQL creates the database that uri names if it is missing.
func createMySQL(ctx context.Context, uri string) (err error) {
	cfg, err := mysqlConfig(uri)
	if err != nil {
		return err
	}
	name := cfg.DBName
	cfg.DBName = ""
	db, err := openMySQL(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS `"+strings.ReplaceAll(name, "`", "``")+"` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	if err != nil {
		return fmt.Errorf("create the database %s: %w", name, err)
	}
	return nil
}
