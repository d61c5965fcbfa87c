// Package asyncapi serves /asyncapi.json: the hub's stream of messages as an
// AsyncAPI 3.0 document, made from the types and settings that the messages are
// made from. It describes what is sent; it sends nothing.
package asyncapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

// Document is the rendered document.
type Document struct{ json []byte }

const introduction = `Accounts, transactions, consents and calls of banks as messages on RabbitMQ, in the envelopes of MassTransit. One message is one fact and carries the whole entity.

A consumer declares a durable queue of any name and a durable fanout exchange in front of it, and binds that exchange to those of the channels. MassTransit does so by itself.

A message may come more than once, always under the same messageId; a replay has a new one and names the original in its headers. The messages about one account arrive in the order of what happened, and SessionFinishedMessage after the transactions that it ends.

Members may be added to messages later: ignore those that you do not know.`

// New makes the document of a hub with these streams. Credentials in their URLs
// are left out, hosts and virtual hosts are not: leave out the URL of a stream
// that not every reader of the document may know of, then only the form of its
// messages shows. Without any stream it describes the messages alone.
func New(version string, streams ...stream.Settings) (*Document, error) {
	d := document{
		AsyncAPI: "3.0.0", DefaultContentType: banqup.ContentType,
		Info:    info{Title: "bankfeed stream", Version: version, Description: introduction},
		Servers: map[string]server{}, Channels: map[string]channel{}, Operations: map[string]operation{},
		Components: components{
			Messages: map[string]message{}, Schemas: map[string]*schema{},
			SecuritySchemes: map[string]securityScheme{"broker": {Type: "userPassword", Description: "User and password of the client at the broker."}},
		},
	}
	f := form{}
	if len(streams) == 0 {
		f.add(banqup.Settings{})
	}
	carriers, carried := map[banqup.Kind][]reference{}, map[banqup.Kind]bool{}
	for _, s := range streams {
		f.add(s.Face)
		for _, k := range s.Messages {
			carried[k] = true
		}
		if s.URL == "" {
			continue
		}
		broker, err := serverOf(s)
		if err != nil {
			return nil, err
		}
		d.Servers[s.Name] = broker
		for _, k := range s.Messages {
			carriers[k] = append(carriers[k], reference{"#/servers/" + pointer(s.Name)})
		}
	}
	for _, k := range banqup.Kinds {
		if len(streams) == 0 || carried[k] {
			d.add(k, f, carriers[k])
		}
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	return &Document{append(text, '\n')}, nil
}

// JSON is the document.
func (d *Document) JSON() []byte { return d.json }

// Mount adds the document to the routes of the hub.
func (d *Document) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /asyncapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.aai.asyncapi+json;version=3.0.0")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(d.json) // if nobody is there to read it, nobody is told
	})
}

// add describes one kind of message: its channel is its exchange.
func (d *document) add(k banqup.Kind, f form, servers []reference) {
	name := k.Exchange()[strings.LastIndex(k.Exchange(), ":")+1:]
	id := string(k)
	d.Components.Schemas[name] = f.message(k)
	d.Components.Messages[name] = message{
		Name: name, Title: name, Summary: summaries[k], ContentType: banqup.ContentType,
		Headers: f.headers(), Payload: f.envelope(k, "#/components/schemas/"+name),
	}
	d.Channels[id] = channel{
		Address: k.Exchange(), Title: name, Summary: summaries[k], Servers: servers,
		Messages: map[string]reference{name: {"#/components/messages/" + name}},
		Bindings: map[string]any{"amqp": channelBinding{
			Is: "routingKey", Exchange: exchange{Name: k.Exchange(), Type: amqp.ExchangeFanout, Durable: true}, BindingVersion: bindingVersion,
		}},
	}
	d.Operations[id] = operation{
		Action: "send", Summary: "The hub publishes " + name + ".", Channel: reference{"#/channels/" + id},
		Messages: []reference{{"#/channels/" + id + "/messages/" + name}},
		Bindings: map[string]any{"amqp": operationBinding{DeliveryMode: amqp.Persistent, Mandatory: true, BindingVersion: bindingVersion}},
	}
}

func serverOf(s stream.Settings) (server, error) {
	u, err := amqp.ParseURI(string(s.URL))
	if err != nil { // it would show the password
		return server{}, bankfeed.InvalidField("url", "stream %s: not the URL of a broker", s.Name)
	}
	path := "/"
	if u.Vhost != "/" {
		path += url.PathEscape(u.Vhost)
	}
	return server{
		Host: fmt.Sprintf("%s:%d", bracketed(u.Host), u.Port), Pathname: path, Protocol: u.Scheme, ProtocolVersion: "0.9.1",
		Description: "The stream " + s.Name + ".", Security: []reference{{"#/components/securitySchemes/broker"}},
	}, nil
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// pointer escapes a name for a JSON pointer (RFC 6901).
func pointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
