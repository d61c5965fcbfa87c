package finapi_test

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/internal/connector/statement"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

// Every member that clients are told of is one that the hub reads: each in turn
// with a value of the wrong type is named as the fault.
func TestEveryMemberOfAnImportIsRead(t *testing.T) {
	members := func(v any) (names []string) {
		for f := range reflect.TypeOf(v).Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, name)
		}
		return names
	}
	fault := func(change func(source, account, transaction map[string]any)) string {
		t.Helper()
		transaction := map[string]any{"amount": json.Number("1"), "valueDate": "2026-01-01"}
		account := map[string]any{"accountNumber": "1", "balance": json.Number("1"), "transactions": []any{transaction}}
		source := map[string]any{"accounts": []any{account}}
		change(source, account, transaction)
		b, err := json.Marshal(source)
		require.NoError(t, err)
		_, err = statement.JSON{}.Read(context.Background(), strings.NewReader(string(b)), func(int, *bankfeed.Transaction) bool { return true })
		require.Error(t, err, "%s", b)
		return err.Error()
	}
	for _, name := range members(finapi.TransactionSource{}) {
		require.Contains(t, fault(func(s, _, _ map[string]any) { s[name] = true }), name+": ")
	}
	for _, name := range members(finapi.ImportAccount{}) {
		require.Contains(t, fault(func(_, a, _ map[string]any) { a[name] = true }), "accounts[0]."+name+": ")
	}
	for _, name := range members(finapi.ImportTransaction{}) {
		require.Contains(t, fault(func(_, _, x map[string]any) { x[name] = true }), "accounts[0].transactions[0]."+name+": ")
	}
}

func TestTheCallbackOfAnImport(t *testing.T) {
	source := bankfeed.Installation{}.UUID(bankfeed.KindConnection, 1, 5)
	body, err := finapi.RenderCallback(bankfeed.Event{Type: bankfeed.EventRequestFinished, Snapshot: &bankfeed.Snapshot{Request: &bankfeed.RequestRef{
		Kind: bankfeed.RequestImport, Status: "succeeded", Handle: "h", Sources: []bankfeed.SourceRef{{Connection: 5, UUID: source, Outcome: bankfeed.Outcome{Status: bankfeed.OutcomeSucceeded}}}}}})
	require.NoError(t, err)
	require.JSONEq(t, `{"callbackHandle":"h","dataSourceIds":["`+source.String()+`"],"status":"SUCCESSFUL","code":"SYNC_SUCCESSFUL","message":"The data source was imported.",
		"dataSources":[{"dataSourceId":"`+source.String()+`","status":"SUCCESSFUL","code":"SYNC_SUCCESSFUL","updateRequired":false}]}`, string(body))
}
