package fleetbench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The plain loop's names in the broker, and how its answers are batched.
const (
	rawExchange = "raw"
	rawAnswers  = "raw.answers"
	rawBatch    = 200
	rawLinger   = 5 * time.Millisecond
)

// loop is the plain loop: a publisher, one consumer per endpoint, and a batch writer.
type loop struct {
	Options
	answers int
	body    []byte

	db      *sql.DB
	conns   []*amqp.Connection
	publish *amqp.Channel
	stored  <-chan amqp.Delivery
	rounds  int
	work    sync.WaitGroup

	mu  sync.Mutex
	err error
}

func (l *loop) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

func (l *loop) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *loop) dial(env *environment) (*amqp.Connection, error) {
	c, err := amqp.Dial(env.amqp)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

// open declares queues and table and starts one consumer per endpoint, over as many
// connections as the fleet had.
func (l *loop) open(ctx context.Context, env *environment) error {
	if err := l.openTable(ctx, env); err != nil {
		return err
	}
	if err := l.openPublisher(env); err != nil {
		return err
	}
	if err := l.openAnswers(env); err != nil {
		return err
	}
	var c *amqp.Connection
	for i := range l.Endpoints {
		if i%l.PerConnection == 0 {
			var err error
			if c, err = l.dial(env); err != nil {
				return err
			}
		}
		if err := l.startConsumer(c, i); err != nil {
			return err
		}
	}
	return nil
}

func (l *loop) openTable(ctx context.Context, env *environment) error {
	config, err := mysql.ParseDSN(env.dsn)
	if err != nil {
		return err
	}
	config.InterpolateParams = true
	if l.db, err = sql.Open("mysql", config.FormatDSN()); err != nil {
		return err
	}
	_, err = l.db.ExecContext(ctx, `CREATE TABLE raw_answers (task BIGINT NOT NULL, endpoint VARCHAR(64) NOT NULL, answer INT NOT NULL,
		status VARCHAR(16) NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (task, endpoint, answer)) ENGINE=InnoDB`)
	return err
}

// openPublisher opens the channel of the messages and declares their exchange.
func (l *loop) openPublisher(env *environment) error {
	c, err := l.dial(env)
	if err != nil {
		return err
	}
	if l.publish, err = c.Channel(); err != nil {
		return err
	}
	if err := l.publish.Confirm(false); err != nil {
		return err
	}
	return l.publish.ExchangeDeclare(rawExchange, amqp.ExchangeDirect, true, false, false, false, nil)
}

// openAnswers declares and consumes the queue of the answers.
func (l *loop) openAnswers(env *environment) error {
	c, err := l.dial(env)
	if err != nil {
		return err
	}
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(rawAnswers, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}); err != nil {
		return err
	}
	if err := ch.Qos(3*rawBatch, 0, false); err != nil {
		return err
	}
	l.stored, err = ch.Consume(rawAnswers, "", false, false, false, false, nil)
	return err
}

// startConsumer answers the messages for one endpoint.
func (l *loop) startConsumer(c *amqp.Connection, i int) error {
	name := rawExchange + "." + endpointName(i)
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}); err != nil {
		return err
	}
	if err := ch.QueueBind(name, endpointName(i), rawExchange, false, nil); err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	if err := ch.Qos(32, 0, false); err != nil {
		return err
	}
	in, err := ch.Consume(name, "", false, true, false, false, nil)
	if err != nil {
		return err
	}
	l.work.Go(func() {
		for d := range in {
			for n := range l.answers {
				p := amqp.Publishing{
					DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(d.MessageId, " ", endpointName(i), " ", n),
					Body: l.body[:min(len(l.body), 300)], // about the size of a report
				}
				if _, err := ch.PublishWithDeferredConfirm("", rawAnswers, true, false, p); err != nil {
					l.fail(err)
					return
				}
			}
			if err := d.Ack(false); err != nil {
				l.fail(err)
				return
			}
		}
	})
	return nil
}

// round sends n messages, stores their answers, and returns the time that this took.
func (l *loop) round(ctx context.Context, n int) (time.Duration, error) {
	l.rounds++
	began := time.Now()
	published := make(chan error, 1)
	go func() { published <- l.send(ctx, n) }()
	err := l.store(ctx, n*l.answers)
	took := time.Since(began)
	return took, errors.Join(<-published, err, l.failed())
}

func (l *loop) send(ctx context.Context, n int) error {
	const window = 1000
	var waiting []*amqp.DeferredConfirmation
	for i := range n {
		p := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(l.rounds, " ", i), Body: l.body}
		c, err := l.publish.PublishWithDeferredConfirmWithContext(ctx, rawExchange, endpointName(i%l.Endpoints), true, false, p)
		if err != nil {
			return err
		}
		if waiting = append(waiting, c); len(waiting) == window || i == n-1 {
			for _, c := range waiting {
				if ok, err := c.WaitContext(ctx); err != nil || !ok {
					return errors.Join(errors.New("a message was not confirmed"), err)
				}
			}
			waiting = waiting[:0]
		}
	}
	return nil
}

// store stores n answers in batches, each acknowledged after its commit.
func (l *loop) store(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	linger := time.NewTimer(rawLinger)
	defer linger.Stop()
	for n > 0 {
		var batch []amqp.Delivery
		select {
		case d := <-l.stored:
			batch = append(batch, d)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), l.failed())
		}
		linger.Reset(rawLinger)
		for full := false; !full && len(batch) < min(rawBatch, n); {
			select {
			case d := <-l.stored:
				batch = append(batch, d)
			case <-linger.C:
				full = true
			}
		}
		values := make([]any, 0, 5*len(batch))
		for _, d := range batch {
			var task, message, answer int
			var name string
			if _, err := fmt.Sscan(d.MessageId, &task, &message, &name, &answer); err != nil {
				return err
			}
			values = append(values, int64(task)<<32|int64(message), name, answer, "succeeded", time.Now().UnixMicro())
		}
		query := "INSERT INTO raw_answers (task, endpoint, answer, status, at) VALUES (?,?,?,?,?)" +
			strings.Repeat(",(?,?,?,?,?)", len(batch)-1) + " ON DUPLICATE KEY UPDATE status = VALUES(status), at = VALUES(at)"
		if _, err := l.db.ExecContext(ctx, query, values...); err != nil {
			return err
		}
		if err := batch[len(batch)-1].Ack(true); err != nil {
			return err
		}
		n -= len(batch)
	}
	return nil
}

func (l *loop) close() error {
	var err error
	for _, c := range l.conns {
		err = errors.Join(err, c.Close())
	}
	l.work.Wait()
	if l.db != nil {
		err = errors.Join(err, l.db.Close())
	}
	return err
}
