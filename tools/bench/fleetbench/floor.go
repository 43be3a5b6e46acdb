package fleetbench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The floor's names in the broker, and how its answers are stored.
const (
	rawExchange = "raw"
	rawAnswers  = "raw.answers"
	rawBatch    = 200
	rawLinger   = 5 * time.Millisecond
)

// floor measures the plain loop and enters it into r: for each task, the messages
// published with pipelined confirms, each consumed from a queue of its own and
// answered as often as the agents did, the answers stored in batches; and bare commits
// of the rows that the POSTs have stored.
func floor(ctx context.Context, o Options, g *ground, m *meter, r *Result) (err error) {
	responses := o.Tasks
	if !o.Spread {
		responses *= o.Endpoints
	}
	l := &loop{Options: o, answers: max(1, int(math.Round(r.Updates/float64(responses)))), body: payload(o.Payload)}
	r.RawAnswers = l.answers
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.open(ctx, g); err != nil {
		return err
	}
	each := o.Endpoints
	rounds := o.Tasks
	if o.Spread {
		each, rounds = o.Tasks, 1
	}
	if _, err := l.round(ctx, o.Endpoints); err != nil { // as cold as the first task
		return err
	}
	before := m.read(ctx)
	var took []time.Duration
	for range rounds {
		t, err := l.round(ctx, each)
		if err != nil {
			return err
		}
		o.Say("the floor: %d messages after %s", each, t.Round(time.Millisecond))
		took = append(took, t)
	}
	r.RawUsage = m.read(ctx).since(before)
	raw := percentiles(took).P50
	ratio := r.FinishedMS / raw
	r.RawMS, r.RatioToRaw = &raw, &ratio
	callers := 1
	if o.Spread {
		callers = posters
	}
	if took, err = l.commits(ctx, callers); err != nil {
		return fmt.Errorf("commit the same rows: %w", err)
	}
	bare := percentiles(took)
	times := r.Post.P99 / bare.P99
	r.BareCommit, r.PostToCommit = &bare, &times
	return nil
}

// loop is the plain loop.
type loop struct {
	Options
	answers int
	body    []byte

	db      *sql.DB
	conns   []*amqp.Connection
	publish *amqp.Channel
	stored  <-chan amqp.Delivery
	took    int // rounds
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

func (l *loop) dial(g *ground) (*amqp.Connection, error) {
	c, err := amqp.Dial(g.amqp)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

// open declares queues and table and starts those who answer: as many connections
// as the fleet had, a channel for each.
func (l *loop) open(ctx context.Context, g *ground) error {
	config, err := mysql.ParseDSN(g.dsn)
	if err != nil {
		return err
	}
	config.InterpolateParams = true
	if l.db, err = sql.Open("mysql", config.FormatDSN()); err != nil {
		return err
	}
	if _, err := l.db.ExecContext(ctx, `CREATE TABLE raw_answers (task BIGINT NOT NULL, endpoint VARCHAR(64) NOT NULL, answer INT NOT NULL,
		status VARCHAR(16) NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (task, endpoint, answer)) ENGINE=InnoDB`); err != nil {
		return err
	}
	c, err := l.dial(g)
	if err != nil {
		return err
	}
	if l.publish, err = c.Channel(); err != nil {
		return err
	}
	if err := l.publish.Confirm(false); err != nil {
		return err
	}
	if err := l.publish.ExchangeDeclare(rawExchange, amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := l.publish.QueueDeclare(rawAnswers, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}); err != nil {
		return err
	}
	if c, err = l.dial(g); err != nil {
		return err
	}
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(3*rawBatch, 0, false); err != nil {
		return err
	}
	if l.stored, err = ch.Consume(rawAnswers, "", false, false, false, false, nil); err != nil {
		return err
	}
	for i := range l.Endpoints {
		if i%l.PerConnection == 0 {
			if c, err = l.dial(g); err != nil {
				return err
			}
		}
		if err := l.answerer(c, i); err != nil {
			return err
		}
	}
	return nil
}

// answerer answers what comes for one endpoint.
func (l *loop) answerer(c *amqp.Connection, i int) error {
	name := rawExchange + "." + endpoint(i)
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if _, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic}); err != nil {
		return err
	}
	if err := ch.QueueBind(name, endpoint(i), rawExchange, false, nil); err != nil {
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
					DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(d.MessageId, " ", endpoint(i), " ", n),
					Body: l.body[:min(len(l.body), 300)], // about what a report has
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

// round has n messages delivered, answered and stored, and says how long it took.
func (l *loop) round(ctx context.Context, n int) (time.Duration, error) {
	l.took++
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
		p := amqp.Publishing{DeliveryMode: amqp.Persistent, MessageId: fmt.Sprint(l.took, " ", i), Body: l.body}
		c, err := l.publish.PublishWithDeferredConfirmWithContext(ctx, rawExchange, endpoint(i%l.Endpoints), true, false, p)
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
	ctx, cancel := context.WithTimeout(ctx, patience)
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
