package finapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	wire "github.com/bankfeed/bankfeed/wire/finapi"
)

// What a stranger made up is no fault of the hub, and is refused in the
// dialect's shape without being repeated; what is taken in is text that every
// database keeps.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `null`, `[]`, "\xff", `{"callbackUrl":"https://domain.tld","callbackHandle":"x","dataSourceIds":["1"],"bankConnectionIds":[1]}`,
		`{"bankConnectionIds":[1e3,-0,99999999999999999999]}`, `{"id":"a","password":"secret1","email":"e","phone":"p","isAutoUpdateEnabled":true}`,
		`{"callbackHandle":"\u0000"}`, `{"callbackHandle":{"a":[[[]]]}}`, `{"dataSourceIds":[null]}`, `{"CallbackHandle":"x","callbackHandle":"y"}`,
	} {
		f.Add(s)
	}
	c := newClient(f)
	f.Fuzz(func(t *testing.T, body string) {
		for _, x := range [][2]string{{"user", synchronization}, {"client", "/api/v1/users"}, {"client", "/api/v1/processes"}} {
			c.hub.orders = nil
			r := httptest.NewRequest(http.MethodPost, x[1], strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+x[0])
			w := httptest.NewRecorder()
			c.api.ServeHTTP(w, r)
			require.Less(t, w.Code, 500, w.Body.String())
			if w.Code >= 400 {
				var e wire.Errors
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
				require.NotEmpty(t, e.Errors[0].Code)
				require.NotEmpty(t, e.Errors[0].Message)
			}
			for _, o := range c.hub.orders {
				require.Equal(t, strings.ToValidUTF8(strings.ReplaceAll(o.Handle, "\x00", ""), ""), o.Handle)
			}
			for _, s := range []string{c.hub.created.ExternalID, c.hub.created.Contact.Email, c.hub.created.Contact.Phone} {
				require.Equal(t, strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), ""), s)
			}
		}
	})
}
