package consent

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
)

func TestResultURL(t *testing.T) {
	for to, want := range map[string]string{
		"https://client.example":                       "https://client.example?connection_id=7&result=refused",
		"https://client.example/a?b=%20c;d&e#f":        "https://client.example/a?b=%20c;d&e&connection_id=7&result=refused#f",
		"https://client.example/?result=ok&%72esult=1": "https://client.example/?connection_id=7&result=refused",
	} {
		require.Equal(t, want, resultURL(to, 7, refused))
	}
}

// What a user's bank said must not travel in clear to a live client.
func TestRedirectURLOfLiveClientsIsHTTPS(t *testing.T) {
	for to, live := range map[string]bool{"": true, "https://client.example/back": true, "HTTPS://client.example": true, "http://client.example/back": false, "http://127.0.0.1:8080/back": false} {
		l := bankfeed.Linking{Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Redirect}}, RedirectURL: to, Sandbox: true}
		require.NoError(t, checkLinking(l), to)
		l.Sandbox = false
		err := checkLinking(l)
		if live {
			require.NoError(t, err, to)
			continue
		}
		var e *bankfeed.Error
		require.ErrorAs(t, err, &e, to)
		require.Equal(t, bankfeed.Invalid, e.Kind)
		require.Equal(t, "redirect_url", e.Field)
	}
}

// Whatever a client calls its page: what is accepted leads to that host, tells
// the result once, and adds no rule of its own to the pages' policy.
func FuzzRedirectURL(f *testing.F) {
	for _, s := range []string{"https://client.example/x?a=b#c", "http://[::1]:80/", "https://a;script-src *", "https://a:b@c", "//x", "https://x/?result=%zz&a;b", "https://x:1/\r\nA: b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, to string) {
		l := bankfeed.Linking{Channels: []bankfeed.LinkChannel{{Mode: bankfeed.Embedded}}, RedirectURL: to, Sandbox: true}
		if to == "" || checkLinking(l) != nil {
			return
		}
		before, err := url.Parse(to)
		require.NoError(t, err)
		after, err := url.Parse(resultURL(to, 7, success))
		require.NoError(t, err)
		require.Equal(t, before.Host, after.Host)
		require.Contains(t, []string{"http", "https"}, after.Scheme)
		require.Equal(t, 1, strings.Count("&"+after.RawQuery, "&result=success"))
		v := &visit{link: bankfeed.Link{Mode: bankfeed.Embedded, RedirectURL: to}}
		require.Empty(t, strings.Trim(v.formTargets(), "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/[]"))
	})
}
