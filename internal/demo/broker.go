package demo

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
)

// VHost is the virtual host that the demo streams to, if it may: what it
// publishes is not for those who consume elsewhere on the broker.
const VHost = "bankfeed-demo"

// broker is where the demo's hub streams to.
type broker struct {
	url    *url.URL
	target amqp.URI
	how    string // how it came to its virtual host, for people
}

const (
	brokerPatience = 10 * time.Second // connecting and the handshake
	adminPatience  = 30 * time.Second // one call for a virtual host; rabbitmqctl starts an Erlang machine
)

// openBroker makes sure that the broker can be reached, in the virtual host vhost
// if it is there or can be made, else in that of the address. An empty vhost
// means that of the address. Errors do not show the password.
func openBroker(ctx context.Context, address bankfeed.Secret, vhost string) (*broker, error) {
	own, err := parseBroker(address)
	if err != nil {
		return nil, err
	}
	why := "its URL names it"
	if vhost != "" {
		b := own.in(vhost)
		err := b.enter(ctx)
		if err == nil {
			b.how = "which was there already"
			return b, nil
		}
		if !refused(err) {
			return nil, b.explain(err)
		}
		if err = b.makeVHost(ctx); err == nil {
			b.how = "made for the demo"
			return b, nil
		}
		why = fmt.Sprintf("its URL names it, and %s could not be made: %s", vhost, err)
	}
	if err := own.enter(ctx); err != nil {
		return nil, own.explain(err)
	}
	own.how = why
	return own, nil
}

func parseBroker(address bankfeed.Secret) (*broker, error) {
	bad := errors.New("--amqp-url: is not an amqp:// or amqps:// URL") // the parsers' errors show the password
	u, err := url.Parse(string(address))
	if err != nil || u.Scheme != "amqp" && u.Scheme != "amqps" || u.Hostname() == "" || u.Fragment != "" {
		return nil, bad
	}
	b := &broker{url: u}
	if b.target, err = amqp.ParseURI(string(address)); err != nil {
		return nil, bad
	}
	return b, nil
}

// in is the same broker, another virtual host.
func (b *broker) in(vhost string) *broker {
	u := *b.url
	u.Path, u.RawPath = "/"+vhost, ""
	other := &broker{url: &u, target: b.target}
	other.target.Vhost = vhost
	return other
}

func (b *broker) address() bankfeed.Secret { return bankfeed.Secret(b.url.String()) }

func (b *broker) host() string { return net.JoinHostPort(b.target.Host, strconv.Itoa(b.target.Port)) }

// local says whether the broker runs on this machine.
func (b *broker) local() bool {
	ip := net.ParseIP(b.target.Host)
	return b.target.Host == "localhost" || ip != nil && ip.IsLoopback()
}

// connect opens a connection. name is what the broker's operator sees.
func (b *broker) connect(ctx context.Context, name string) (*amqp.Connection, error) {
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(name)
	c := amqp.Config{Heartbeat: brokerPatience, Properties: properties, Dial: func(network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: brokerPatience}
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn, conn.SetDeadline(time.Now().Add(brokerPatience)) // lifted after the handshake
	}}
	if b.url.Scheme == "amqps" {
		c.TLSClientConfig = &tls.Config{ServerName: b.target.Host, MinVersion: tls.VersionTLS12}
	}
	return amqp.DialConfig(string(b.address()), c)
}

// enter tries whether the user may come in.
func (b *broker) enter(ctx context.Context) error {
	conn, err := b.connect(ctx, "bankfeed demo")
	if err != nil {
		return err
	}
	_ = conn.Close() // it has answered
	return nil
}

// refused says whether the broker is well and only the virtual host is not there
// for us.
func refused(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && (e.Code == amqp.NotAllowed || e == amqp.ErrVhost)
}

// explain says for people why the broker does not let us in.
func (b *broker) explain(err error) error {
	var e *amqp.Error
	if errors.As(err, &e) {
		return fmt.Errorf("the broker at %s does not let the user of --amqp-url into virtual host %s: %s", b.host(), b.target.Vhost, e.Reason)
	}
	return fmt.Errorf("the broker of --amqp-url cannot be reached at %s: %w", b.host(), err)
}

// makeVHost makes the virtual host in the first way that works.
func (b *broker) makeVHost(ctx context.Context) error {
	var why []string
	for _, way := range b.ways() {
		err := b.makeBy(ctx, way)
		if err == nil {
			return nil
		}
		why = append(why, err.Error())
	}
	return errors.New(strings.Join(why, "; "))
}

func (b *broker) makeBy(ctx context.Context, way admin) error {
	if err := way.create(ctx, b.target.Vhost, b.target.Username); err != nil {
		return err
	}
	if err := b.enter(ctx); err != nil { // then it was another broker's
		return errors.Join(err, way.remove(context.WithoutCancel(ctx), b.target.Vhost))
	}
	return nil
}

// admin makes and removes virtual hosts. create fails if there is one already.
type admin interface {
	create(ctx context.Context, vhost, user string) error
	remove(ctx context.Context, vhost string) error
}

// ways lists how a virtual host may be made, the usual one first. Where the
// stream is encrypted, the password does not leave this machine in clear either.
func (b *broker) ways() (list []admin) {
	api := func(scheme, port string) {
		list = append(list, &management{base: scheme + "://" + net.JoinHostPort(b.target.Host, port), user: b.target.Username, password: b.target.Password})
	}
	if b.url.Scheme == "amqps" {
		api("https", "15671")
		api("https", "15672")
	}
	if b.url.Scheme == "amqp" || b.local() {
		api("http", "15672")
	}
	if b.local() {
		list = append(list, rabbitmqctl{b.target.Port})
	}
	return list
}

// management is the HTTP API of the broker's management plugin.
type management struct{ base, user, password string }

func (m *management) create(ctx context.Context, vhost, user string) error {
	path := "/api/vhosts/" + url.PathEscape(vhost)
	switch status, err := m.call(ctx, http.MethodGet, path, ""); {
	case err != nil:
		return err
	case status == http.StatusOK:
		return errors.New("it is there, but the user may not enter")
	case status != http.StatusNotFound:
		return m.unexpected(status)
	}
	for _, put := range [][2]string{
		{path, ""},
		{"/api/permissions/" + url.PathEscape(vhost) + "/" + url.PathEscape(user), `{"configure":".*","write":".*","read":".*"}`},
	} {
		if status, err := m.call(ctx, http.MethodPut, put[0], put[1]); err != nil {
			return err
		} else if status/100 != 2 {
			return m.unexpected(status)
		}
	}
	return nil
}

func (m *management) remove(ctx context.Context, vhost string) error {
	status, err := m.call(ctx, http.MethodDelete, "/api/vhosts/"+url.PathEscape(vhost), "")
	if err == nil && status/100 != 2 {
		err = m.unexpected(status)
	}
	return err
}

func (m *management) unexpected(status int) error {
	return fmt.Errorf("the management API at %s answers %d", m.base, status)
}

func (m *management) call(ctx context.Context, method, path, body string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, m.base+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.SetBasicAuth(m.user, m.password)
	r.Header.Set("Content-Type", "application/json")
	client := newHTTP()
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("no management API at %s", m.base)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, err
}

// rabbitmqctl is the command line of the broker on this machine that listens on
// a port.
type rabbitmqctl struct{ port int }

func (c rabbitmqctl) create(ctx context.Context, vhost, user string) error {
	out, err := c.run(ctx, "--formatter", "json", "status")
	if err != nil {
		return err
	}
	type listener struct {
		Port int `json:"port"`
	}
	var status struct {
		Listeners []listener `json:"listeners"`
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return fmt.Errorf("rabbitmqctl status: %w", err)
	}
	if !slices.Contains(status.Listeners, listener{c.port}) {
		return fmt.Errorf("rabbitmqctl reaches a broker that does not listen on port %d", c.port)
	}
	if _, err := c.run(ctx, "add_vhost", vhost); err != nil {
		return err
	}
	_, err = c.run(ctx, "set_permissions", "--vhost", vhost, user, ".*", ".*", ".*")
	return err
}

func (c rabbitmqctl) remove(ctx context.Context, vhost string) error {
	_, err := c.run(ctx, "delete_vhost", vhost)
	return err
}

func (rabbitmqctl) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "rabbitmqctl", append([]string{"--quiet"}, args...)...) //nolint:gosec // no shell reads them
	cmd.WaitDelay = time.Second
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("no rabbitmqctl on this machine")
	}
	if err != nil {
		text := strings.Join(strings.Fields(complaints.String()), " ")
		return nil, fmt.Errorf("rabbitmqctl %s: %w %.200s", args[0], err, text)
	}
	return out, nil
}
