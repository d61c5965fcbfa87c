package config

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/bankfeed/bankfeed"
)

// Stream describes a stream of messages on RabbitMQ in the configuration file.
// Without any, BANKFEED_AMQP_URL makes the stream DefaultStream of the only
// tenant.
type Stream struct {
	Name       string            `yaml:"name"`
	Tenant     string            `yaml:"tenant"`      // by name; empty: the only one
	AMQPURL    bankfeed.Secret   `yaml:"amqp_url"`    // empty: that of BANKFEED_AMQP_URL
	Messages   []string          `yaml:"messages"`    // account, transaction, session, consent, call; empty: all
	Decimals   string            `yaml:"decimals"`    // number or string
	Nulls      string            `yaml:"nulls"`       // explicit or omitted
	AmountSign string            `yaml:"amount_sign"` // signed or absolute
	Unchanged  string            `yaml:"unchanged"`   // suppress or publish
	Start      string            `yaml:"start"`       // log or now
	Unrouted   map[string]string `yaml:"unrouted"`    // by message: hold, record or off
	Queues     []string          `yaml:"queues"`      // of the client, watched for being empty
}

// DefaultStream is the name of a stream that has none.
const DefaultStream = "main"

// StreamMessages are the messages that a stream can carry.
var StreamMessages = []string{"account", "transaction", "session", "consent", "call"}

var streamName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// check looks at the words and fills in the defaults.
func (s *Stream) check() []error {
	var bad []error
	fail := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	if s.Name == "" {
		s.Name = DefaultStream
	}
	if !streamName.MatchString(s.Name) {
		fail("name: must be lower-case letters, digits and dashes, 40 at most")
	}
	for _, w := range []struct {
		name  string
		value *string
		words []string // the first is the default
	}{
		{"decimals", &s.Decimals, []string{"number", "string"}},
		{"nulls", &s.Nulls, []string{"explicit", "omitted"}},
		{"amount_sign", &s.AmountSign, []string{"signed", "absolute"}},
		{"unchanged", &s.Unchanged, []string{"suppress", "publish"}},
		{"start", &s.Start, []string{"log", "now"}},
	} {
		if *w.value == "" {
			*w.value = w.words[0]
		}
		if !slices.Contains(w.words, *w.value) {
			fail("%s: must be %s or %s", w.name, w.words[0], w.words[1])
		}
	}
	for _, m := range s.Messages {
		if !slices.Contains(StreamMessages, m) {
			fail("messages: must be a list of %v", StreamMessages)
			break
		}
	}
	for m, mode := range s.Unrouted {
		if !slices.Contains(StreamMessages, m) {
			fail("unrouted: its members are %v", StreamMessages)
		} else if !slices.Contains([]string{"hold", "record", "off"}, mode) {
			fail("unrouted.%s: must be hold, record or off", m)
		}
	}
	for i, q := range s.Queues {
		if q == "" || len(q) > 255 {
			fail("queues[%d]: must be the name of a queue, 255 bytes at most", i)
		}
	}
	return bad
}

// streams are those of the file, with the address that flag or environment gives
// to those that have none of their own. What the addresses lead to is the
// business of app.CheckStreams.
func (f *faults) streams(address bankfeed.Secret, file *File) []Stream {
	var list []Stream
	if file != nil {
		list = slices.Clone(file.Streams)
	}
	if len(list) == 0 {
		if address == "" {
			return nil
		}
		s := Stream{AMQPURL: address}
		s.check() // fills in the defaults
		return []Stream{s}
	}
	used := false
	for i := range list {
		if list[i].AMQPURL == "" {
			list[i].AMQPURL, used = address, true
			if address == "" {
				f.add(inFile(fmt.Sprintf("streams[%d]", i)), "amqp_url: is needed, here or as BANKFEED_AMQP_URL")
			}
		}
	}
	if address != "" && !used {
		f.add(named("amqp-url"), "every stream of the configuration file names its own broker: leave it empty")
	}
	return list
}
