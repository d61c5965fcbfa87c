//go:build unix

package test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/demo"
)

// The commands of the vendor's page "Synchronize a Data Source", with its host
// replaced, give the answers that the page shows, and the callback arrives with
// its handle.
func TestCommandsOfTheFinAPIPage(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("NOT RUN: curl is not installed")
	}
	settings := sqliteSettings(t)
	settings.CallbackAllow, settings.FinAPIFresh = "127.0.0.0/8", "0s"
	h := start(t, settings)
	id, secret := h.client(t)
	receiver := newCallee(t)
	status, _, body := curl(t, `curl `+h.URL()+`/oauth/token -d grant_type=client_credentials -d client_id=`+id+` -d client_secret=`+secret)
	require.Equal(t, "HTTP/1.1 200 OK", status)
	var token struct {
		Text string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &token))
	status, _, body = curl(t, `curl -X POST `+h.URL()+`/api/v1/users -H 'Authorization: Bearer `+token.Text+`' -H 'Content-Type: application/json' -d '{"id": "anna", "password": "a-long-password"}'`)
	require.Equal(t, "HTTP/1.1 201 Created", status, body)
	status, _, body = curl(t, `curl `+h.URL()+`/oauth/token -d grant_type=password -d username=anna -d password=a-long-password -d client_id=`+id+` -d client_secret=`+secret)
	require.Equal(t, "HTTP/1.1 200 OK", status, body)
	require.NoError(t, json.Unmarshal([]byte(body), &token))
	j := demo.NewJourney(h.URL(), h.SandboxURL(), id, secret, &output{})
	j.UseUser("anna", "a-long-password")
	require.NoError(t, j.Run(t.Context()))

	page := strings.NewReplacer("https://di-sandbox.finapi.io", h.URL(), "<access_token>", token.Text, "https://domain.tld", receiver.server.URL+"/callback")
	status, _, body = curl(t, page.Replace(`curl --location 'https://di-sandbox.finapi.io/api/v1/dataSources/bankConnections/synchronization' \
--header 'Content-Type: application/json' \
--header 'Authorization: Bearer <access_token>' \
--data '{
"callbackUrl": "https://domain.tld",
"callbackHandle": "38793e87-499d-4860-b947-2c2c8ab10322"
}'`))
	require.Equal(t, "HTTP/1.1 200 OK", status, body)
	const uuid, day = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, `20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}`
	account := `\{"accountId":"` + uuid + `","creationDate":"` + day + `","lastUpdate":"` + day + `","externalId":[0-9]+,"iban":("DE[0-9]{20}"|null),"accountType":"(CHECKING|SAVINGS|CREDIT_CARD|LOAN)","status":"(UPDATED|DOWNLOAD_IN_PROGRESS)"\}`
	require.Regexp(t, `^\{"bankConnections":\[\{"dataSourceId":"`+uuid+`","creationDate":"`+day+`","lastUpdate":"`+day+`","externalId":[0-9]+,"bic":"WBXTDEFFXXX","bankName":"WBX Test Bank",`+
		`"bankStatus":"IN_PROGRESS","updateRequired":false,"accounts":\[(`+account+`,){3}`+account+`\]\}\]\}\s*$`, body)
	var answer struct {
		BankConnections []struct {
			DataSourceID string `json:"dataSourceId"`
		} `json:"bankConnections"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	poll := strings.Replace(page.Replace(`curl --location 'https://di-sandbox.finapi.io/api/v1/dataSources/{dataSourceId}/status' \
--header 'Authorization: Bearer <access_token>'`), "{dataSourceId}", answer.BankConnections[0].DataSourceID, 1)
	status, _, body = curl(t, poll)
	require.Equal(t, "HTTP/1.1 200 OK", status)
	require.JSONEq(t, `{"status": "IN_PROGRESS", "code": "SYNC_IN_PROGRESS"}`, body)

	eventually(t, time.Minute, "the callback arrives", func() bool { return receiver.handles()["38793e87-499d-4860-b947-2c2c8ab10322"] == 1 })
	_, _, body = curl(t, poll)
	require.JSONEq(t, `{"status": "SUCCESSFUL", "code": "SYNC_SUCCESSFUL"}`, body)
}
