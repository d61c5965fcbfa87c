package asyncapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/api/asyncapi"
	"github.com/bankfeed/bankfeed/internal/delivery/stream"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

func made(t *testing.T, streams ...stream.Settings) any {
	t.Helper()
	d, err := asyncapi.New("1.2.3", streams...)
	require.NoError(t, err)
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.JSON()))
	require.NoError(t, err)
	return v
}

func two() []stream.Settings {
	return []stream.Settings{
		{Name: "main", URL: "amqps://hub:geheim@broker.example/bank%2Ffeed", Messages: banqup.Kinds},
		{Name: "second~/", URL: "amqp://hub:geheim@[::1]:5673", Messages: []banqup.Kind{banqup.Call}, Face: banqup.Settings{DecimalsAsText: true, OmitNulls: true}},
	}
}

func TestServed(t *testing.T) {
	d, err := asyncapi.New("1.2.3", two()...)
	require.NoError(t, err)
	mux := http.NewServeMux()
	d.Mount(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/asyncapi.json", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/vnd.aai.asyncapi+json;version=3.0.0", w.Header().Get("Content-Type"))
	require.JSONEq(t, string(d.JSON()), w.Body.String())
	require.NotContains(t, w.Body.String(), "geheim")
	require.NotContains(t, w.Body.String(), "hub@")
}

func TestBadURLIsNotRepeated(t *testing.T) {
	_, err := asyncapi.New("1", stream.Settings{Name: "main", URL: "amqp://u:geheim@bro ker"})
	require.Equal(t, bankfeed.Invalid, bankfeed.ErrorKindOf(err))
	require.NotContains(t, err.Error(), "geheim")
}

// What AsyncAPI 3.0 demands of a document, as far as this one uses it, is in
// testdata/rules.json; the rest, what a schema cannot say, is here.
func TestDocumentKeepsTheRules(t *testing.T) {
	for name, streams := range map[string][]stream.Settings{"none": nil, "one": two()[:1], "two": two(), "hidden": {{Name: "main", Messages: banqup.Kinds}}} {
		t.Run(name, func(t *testing.T) {
			doc := made(t, streams...)
			text, err := os.ReadFile("testdata/rules.json")
			require.NoError(t, err)
			rules, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			require.NoError(t, err)
			c := jsonschema.NewCompiler()
			c.AssertFormat()
			require.NoError(t, c.AddResource("rules.json", rules))
			require.NoError(t, c.MustCompile("rules.json").Validate(doc))

			for _, ref := range references(doc) {
				require.NotNil(t, resolve(doc, ref), ref)
			}
			for id, o := range object(t, doc, "operations") {
				channel := resolve(o, "#/channel").(map[string]any)["$ref"].(string)
				for _, m := range resolve(o, "#/messages").([]any) {
					require.Truef(t, strings.HasPrefix(m.(map[string]any)["$ref"].(string), channel+"/messages/"), "%s: a message of another channel", id)
				}
			}
			addresses := map[any]bool{}
			for _, channel := range object(t, doc, "channels") {
				address := resolve(channel, "#/address")
				require.False(t, addresses[address], "two channels with one address")
				addresses[address] = true
			}
		})
	}
}

func TestDocumentNamesTheExchanges(t *testing.T) {
	doc := made(t, two()...)
	for _, k := range banqup.Kinds {
		require.Equal(t, k.Exchange(), resolve(doc, "#/channels/"+string(k)+"/address"))
		binding := resolve(doc, "#/channels/"+string(k)+"/bindings/amqp/exchange").(map[string]any)
		require.Equal(t, map[string]any{"name": k.Exchange(), "type": "fanout", "durable": true, "autoDelete": false}, binding)
		require.Equal(t, "send", resolve(doc, "#/operations/"+string(k)+"/action"))
	}
	servers := object(t, doc, "servers")
	require.Len(t, servers, 2)
	main, second := servers["main"].(map[string]any), servers["second~/"].(map[string]any)
	require.Equal(t, []any{"broker.example:5671", "/bank%2Ffeed", "amqps"}, []any{main["host"], main["pathname"], main["protocol"]})
	require.Equal(t, []any{"[::1]:5673", "/", "amqp"}, []any{second["host"], second["pathname"], second["protocol"]})
	require.Len(t, resolve(doc, "#/channels/call/servers"), 2)
	require.Len(t, resolve(doc, "#/channels/account/servers"), 1)

	hidden := two()
	hidden[0].URL, hidden[1].URL = "", ""
	require.NotContains(t, made(t, hidden...), "servers")
	require.Equal(t, resolve(doc, "#/components/schemas"), resolve(made(t, hidden...), "#/components/schemas"), "how they write their messages is told all the same")

	narrow := made(t, two()[1])
	require.Len(t, object(t, narrow, "channels"), 1, "what no stream carries is not there")
	none := made(t)
	require.Len(t, object(t, none, "channels"), 5)
	require.NotContains(t, none, "servers")
}

// Every golden message, in its envelope, fits the schema of its kind; the schema
// is closed for this, so that no member of a message is unknown to it.
func TestGoldenMessagesFitTheirSchemas(t *testing.T) {
	files, err := filepath.Glob("../../../wire/banqup/testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	schemas := map[banqup.Settings]func(banqup.Kind) *jsonschema.Schema{}
	seen := map[banqup.Kind]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var golden struct {
			Event struct {
				Epoch    bankfeed.Epoch     `json:"epoch"`
				Tenant   bankfeed.TenantID  `json:"tenant"`
				Position bankfeed.Position  `json:"position"`
				Type     bankfeed.EventType `json:"type"`
				At       time.Time          `json:"at"`
				Snapshot *bankfeed.Snapshot `json:"snapshot"`
			} `json:"event"`
			Settings banqup.Settings `json:"settings"`
		}
		require.NoError(t, json.Unmarshal(text, &golden), file)
		g, s := golden.Event, golden.Settings
		e := &bankfeed.Event{Epoch: g.Epoch, Tenant: g.Tenant, Position: g.Position, Type: g.Type, At: g.At, Snapshot: g.Snapshot}
		k, ok := banqup.KindOf(e.Type)
		message, err := banqup.AppendMessage(nil, e, s)
		if !ok || err != nil {
			continue
		}
		if schemas[s] == nil {
			schemas[s] = closed(t, stream.Settings{Name: "main", URL: "amqp://broker", Messages: banqup.Kinds, Face: s})
		}
		bus := banqup.Bus{OmitNulls: s.OmitNulls, Address: "rabbitmq://broker", Source: "rabbitmq://broker/hub"}
		for _, d := range []banqup.Delivery{{MessageID: e.ID(), SentTime: e.At}, {MessageID: e.ID(), SentTime: e.At, Original: bankfeed.EventID(1, 1, 0, 1), Queue: "q"}} {
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(bus.AppendEnvelope(nil, k, d, message)))
			require.NoError(t, err)
			require.NoError(t, schemas[s](k).Validate(v), file)
		}
		seen[k]++
	}
	require.Len(t, seen, len(banqup.Kinds), "all five have golden files: %v", seen)
}

// The schemas do say no.
func TestSchemasRefuse(t *testing.T) {
	schema := closed(t, stream.Settings{Name: "main", URL: "amqp://broker", Messages: banqup.Kinds})(banqup.Call)
	bus := banqup.Bus{Address: "rabbitmq://broker", Source: "rabbitmq://broker/hub"}
	good := `{"bankSwiftCode":"B","endpointUrl":"https://b","errorResponseContent":null,"exception":null,"initiator":"user","requestContext":"GetToken","requestDuration":"00:00:00.0143177",` +
		`"session":{"externalId":null,"id":"00000000-0000-0000-0000-000000000000"},"statusCode":200,"user":{"externalId":null,"id":"56b62fe5-9a2b-4927-aab1-e2a0f4da590d"},` +
		`"timestamp":"2021-12-03T10:35:51.727948Z","executionId":"c3b8e8af-f468-462d-98ab-416e404ae5fe","containerId":"e1f64b0a5f32","buildId":"20201130.4"}`
	check := func(payload string) error {
		body := bus.AppendEnvelope(nil, banqup.Call, banqup.Delivery{MessageID: bankfeed.EventID(1, 1, 0, 1)}, []byte(payload))
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		require.NoError(t, err)
		return schema.Validate(v)
	}
	require.NoError(t, check(good))
	for _, c := range [][2]string{
		{`"statusCode":200`, `"statusCode":"200"`}, {`"statusCode":200`, `"statusCode":2147483648`}, {`"statusCode":200,`, ``}, {`"initiator":"user"`, `"initiator":null`},
		{`"initiator":"user"`, `"initiator":"nobody"`}, {`51.727948Z`, `51.72794812Z`}, {`51.727948Z`, `51.727948`}, {`00:00:00.0143177`, `PT1S`},
		{`"exception":null`, `"exception":null,"more":1`}, {`c3b8e8af-f468`, `c3b8e8aff468`}, {`"GetToken"`, `"Other"`},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		require.NotEqual(t, good, bad)
		require.Error(t, check(bad), c[1])
	}
}

// closed compiles the payload schemas of a document, with no member allowed that
// they do not name.
func closed(t *testing.T, s stream.Settings) func(banqup.Kind) *jsonschema.Schema {
	t.Helper()
	doc := made(t, s)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	closeObjects(doc)
	require.NoError(t, c.AddResource("asyncapi.json", doc))
	return func(k banqup.Kind) *jsonschema.Schema {
		name := k.Exchange()[strings.LastIndex(k.Exchange(), ":")+1:]
		schema, err := c.Compile("asyncapi.json#/components/messages/" + name + "/payload")
		require.NoError(t, err)
		return schema
	}
}

func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, open := v["additionalProperties"]
		if _, ok := v["properties"]; ok && !open {
			v["additionalProperties"] = false
		}
		for _, child := range v {
			closeObjects(child)
		}
	case []any:
		for _, child := range v {
			closeObjects(child)
		}
	}
}

// references are all $ref of a document.
func references(v any) (refs []string) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			refs = append(refs, ref)
		}
		for _, child := range v {
			refs = append(refs, references(child)...)
		}
	case []any:
		for _, child := range v {
			refs = append(refs, references(child)...)
		}
	}
	return refs
}

// resolve follows a JSON pointer; nil if there is nothing.
func resolve(v any, ref string) any {
	for step := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	return v
}

func object(t *testing.T, v any, name string) map[string]any {
	t.Helper()
	m, ok := v.(map[string]any)[name].(map[string]any)
	require.True(t, ok, name)
	return m
}
