package finapi_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/finapi"
)

func TestCallbacksOfFormsAndTasks(t *testing.T) {
	in := bankfeed.Installation{Born: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}
	form, task := in.UUID(bankfeed.KindRequest, 1, 7), in.UUID(bankfeed.KindRequest, 1, 8)
	for name, c := range map[string]struct {
		ref  bankfeed.RequestRef
		want string
	}{
		"form": {bankfeed.RequestRef{UUID: form, Kind: bankfeed.RequestWebForm, Status: "COMPLETED"}, `{"webFormId":"` + form.String() + `","status":"COMPLETED"}`},
		"task": {bankfeed.RequestRef{UUID: task, Kind: bankfeed.RequestTask, Status: "COMPLETED"}, `{"taskId":"` + task.String() + `","status":"COMPLETED"}`},
		"task that needs its user": {bankfeed.RequestRef{UUID: task, Kind: bankfeed.RequestTask, Status: "WEB_FORM_REQUIRED", Page: &bankfeed.PageRef{UUID: form, Status: "NOT_YET_OPENED"}},
			`{"taskId":"` + task.String() + `","status":"WEB_FORM_REQUIRED","webForm":{"id":"` + form.String() + `","status":"NOT_YET_OPENED"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := finapi.RenderCallback(bankfeed.Event{Type: bankfeed.EventRequestFinished, Snapshot: &bankfeed.Snapshot{Request: &c.ref}})
			require.NoError(t, err)
			require.JSONEq(t, c.want, string(b))
		})
	}
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		chosen []finapi.Interface
		want   []bankfeed.Mode
	}{
		{nil, nil},
		{[]finapi.Interface{finapi.XS2A}, []bankfeed.Mode{bankfeed.Redirect}},
		{[]finapi.Interface{finapi.WebScraper}, []bankfeed.Mode{bankfeed.Embedded}},
		{[]finapi.Interface{finapi.FinTSServer, finapi.XS2A}, []bankfeed.Mode{bankfeed.Redirect, bankfeed.Embedded}},
	} {
		require.Equal(t, c.want, finapi.Modes(c.chosen))
	}
}
