// Package demo shows the hub at work: it starts a hub with a simulated bank in
// this process, then plays a company's client and a person with a browser. Both
// know the hub by HTTP only, the way everybody else does; nothing but the
// client's credentials is made directly.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/app"
	"github.com/bankfeed/bankfeed/internal/config"
	"github.com/bankfeed/bankfeed/internal/sandbox"
)

// Folder is where the demo works, inside the data directory. It is emptied at
// the start; nothing else is touched.
const Folder = "demo"

// Options of a demo.
type Options struct {
	DataDir string
	Listen  string // empty: a free port
	Once    bool   // end after the journey
	// AMQPURL of a broker makes the hub stream there, to the virtual host VHost if
	// it is there or can be made, else to that of the URL. Empty: no stream.
	AMQPURL bankfeed.Secret
	VHost   string
	Out     io.Writer
	Colour  bool
	Log     *slog.Logger
}

// Run shows everything, then ends or, without Once, keeps serving until ctx
// ends. The error says what did not arrive.
func Run(ctx context.Context, o Options) (err error) {
	var b *broker
	if o.AMQPURL != "" {
		if b, err = openBroker(ctx, o.AMQPURL, o.VHost); err != nil {
			return err
		}
	}
	dir := filepath.Join(o.DataDir, Folder)
	if err := empty(dir); err != nil {
		return err
	}
	c, err := configuration(dir, o.Listen, b)
	if err != nil {
		return err
	}
	hub, err := app.New(ctx, c, o.Log)
	if err != nil {
		return err
	}
	// The hub outlives ctx by the moment in which the consumer ends.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- hub.Run(running) }()

	p := &printer{out: o.Out, colour: o.Colour}
	p.title("bankfeed demo")
	p.say("A hub at %s, a simulated bank at %s, and a client that knows neither from inside.", hub.URL(), hub.SandboxURL())
	client, err := hub.Access().CreateClient(ctx, "", "demo", true)
	if err != nil {
		stop()
		return errors.Join(err, <-done)
	}
	j := &Journey{HubURL: hub.URL(), BankURL: hub.SandboxURL(), ClientID: client.ID, ClientSecret: string(client.Secret), print: p, takes: b != nil && o.Once, calledBack: true}
	timeout := journeyTimeout
	if b != nil {
		p.say("It streams to RabbitMQ at %s, virtual host %s (%s); a consumer waits at queue %s.", b.host(), b.target.Vhost, b.how, Queue)
		if j.consumer, err = consume(ctx, b, j.acknowledging(), p, o.Log); err != nil {
			stop()
			return errors.Join(err, <-done)
		}
		timeout += streamTimeout
	}
	journey, cancel := context.WithTimeout(ctx, timeout)
	err = j.Run(journey)
	cancel()
	ended := false
	if err == nil && !o.Once {
		j.signpost(dir, b)
		select {
		case <-ctx.Done():
		case err = <-done:
			ended = true
		}
	}
	if j.consumer != nil { // while the hub still takes its acknowledgements
		err = errors.Join(err, j.consumer.end())
	}
	stop()
	if !ended {
		err = errors.Join(err, <-done)
	}
	if j.consumer != nil {
		err = errors.Join(err, j.consumer.remove())
	}
	return err
}

// More than the journey takes on a slow machine, and what a stream adds.
const (
	journeyTimeout = 3 * time.Minute
	streamTimeout  = 5 * time.Minute
)

// empty makes dir an empty directory.
func empty(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("emptying the demo's folder: %w", err)
	}
	return os.MkdirAll(dir, 0o700)
}

// configuration is that of a hub with nothing from outside: no environment, no
// file, SQLite; but for the broker, if there is one.
func configuration(dir, listen string, b *broker) (config.Config, error) {
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	s := config.Defaults()
	s.DataDir, s.Listen, s.Sandbox = dir, listen, "true"
	s.CallbackAllow = "127.0.0.0/8" // the demo's own client
	s.FinAPIFresh = "0s"            // a day passes at the bank only
	if b != nil {
		s.AMQPURL = b.address()
	}
	c, err := s.Check(nil)
	for i := range c.Streams {
		c.Streams[i].Queues = []string{Queue} // watched for being empty
	}
	return c, err
}

// signpost says where things are.
func (j *Journey) signpost(dir string, b *broker) {
	p := j.print
	p.title("It keeps running; Ctrl-C ends it")
	p.say("API reference        %s/docs", j.HubURL)
	p.say("Health, metrics      %s/readyz  %s/metrics", j.HubURL, j.HubURL)
	p.say("The bank's users     %s/", j.BankURL)
	p.say("Data                 %s (emptied by the next demo)", dir)
	p.say("Client               client_id=%s client_secret=%s", j.ClientID, j.ClientSecret)
	p.say("User                 %s / %s (id %s), at the bank %s / %s, code %s", j.email, userPassword, j.userID, bankUser, sandbox.Password, sandbox.Code)
	if b != nil {
		p.say("Stream               %s, virtual host %s; what the consumer receives is shown from now on", b.host(), b.target.Vhost)
		j.consumer.showLive()
	}
	p.say("")
	p.say("To try, in another terminal:")
	p.command("HUB=%s BANK=%s", j.HubURL, j.BankURL)
	p.command(`TOKEN=$(curl -s $HUB/token -d '{"grant_type":"password","client_id":"%s","client_secret":"%s","username":"%s","password":"%s"}' | sed 's/.*"access_token":"\([^"]*\).*/\1/')`,
		j.ClientID, j.ClientSecret, j.email, userPassword)
	p.command(`curl -s $HUB/v2.1/accounts -H "authorization: Bearer $TOKEN"`)
	p.command(`curl -s $BANK/sandbox/events -d '{"user":"%s","event":"new_transaction","amount":"-12.34","purpose":"Brezel"}'`, bankUser)
	p.command(`curl -s -X POST $HUB/v2.1/connections/%s/synchronize -H "authorization: Bearer $TOKEN" -H "PSU-IP-Address: 127.0.0.1"`, j.connection)
	if b != nil {
		p.command(`curl -s -X DELETE $HUB/v2.1/connections/%s -H "authorization: Bearer $TOKEN"`, j.connection)
	}
	p.command(`curl -s -N "$HUB/v1/events/stream?after=latest" -H "authorization: Bearer $TOKEN"`)
}
