package finapi

import (
	"encoding/json"
	"fmt"

	"github.com/bankfeed/bankfeed"
)

// SyncCallback is the body of the callback of a synchronization.
type SyncCallback struct {
	CallbackHandle string          `json:"callbackHandle,omitempty"` // as it was given
	DataSourceIDs  []bankfeed.UUID `json:"dataSourceIds"`
	Status         Status          `json:"status"` // SUCCESSFUL only if every data source is, else ERROR
	Code           Code            `json:"code"`
	Message        string          `json:"message"`
	// DataSources says of each how it stands (extra).
	DataSources []CallbackSource `json:"dataSources"`
}

// CallbackSource is a data source in a SyncCallback.
type CallbackSource struct {
	ID             bankfeed.UUID `json:"dataSourceId"`
	Status         Status        `json:"status"`
	Code           Code          `json:"code"`
	UpdateRequired bool          `json:"updateRequired"`
}

// RenderCallback writes the body of the callback that an event of a request
// causes. It is a pure function of the event.
func RenderCallback(e bankfeed.Event) ([]byte, error) {
	if e.Snapshot == nil || e.Snapshot.Request == nil {
		return nil, fmt.Errorf("finapi: an event of the type %s has no request to tell of", e.Type)
	}
	r := e.Snapshot.Request
	switch r.Kind {
	case bankfeed.RequestSync:
		return json.Marshal(syncCallback(r))
	case bankfeed.RequestImport: // the same: its data source stands as it does after a synchronization
		c := syncCallback(r)
		if c.Code == CodeSyncSuccessful {
			c.Message = "The data source was imported."
		}
		return json.Marshal(c)
	case bankfeed.RequestReport:
		return json.Marshal(ReportCallbackOf(r))
	case bankfeed.RequestWebForm:
		return webFormCallback(r)
	case bankfeed.RequestTask:
		return taskCallback(r)
	}
	return nil, fmt.Errorf("finapi: no callback tells of a %s", r.Kind)
}

func syncCallback(r *bankfeed.RequestRef) SyncCallback {
	c := SyncCallback{CallbackHandle: r.Handle, Status: Successful, Code: CodeSyncSuccessful,
		DataSourceIDs: make([]bankfeed.UUID, 0, len(r.Sources)), DataSources: make([]CallbackSource, 0, len(r.Sources))}
	if len(r.Sources) == 0 {
		c.Status, c.Code = Errored, CodeNoDataSources
	}
	for _, s := range r.Sources {
		face, updateRequired := Face(s.Outcome)
		c.DataSourceIDs = append(c.DataSourceIDs, s.UUID)
		c.DataSources = append(c.DataSources, CallbackSource{s.UUID, face.Status, face.Code, updateRequired})
		switch {
		case face.Status == Successful:
		case c.Status == Successful, face.Code == CodeUpdateRequired: // what the client can do something about comes first
			c.Status, c.Code = Errored, face.Code
		}
	}
	c.Message = messages[c.Code]
	return c
}

// messages are for people.
var messages = map[Code]string{
	CodeSyncSuccessful:  "All data sources were synchronized.",
	CodeUpdateRequired:  "A data source needs its user: update the bank connection, then synchronize again.",
	CodeBankUnavailable: "A bank does not answer, and there is no data of an earlier synchronization.",
	CodeRateLimited:     "A bank takes no more requests for now, and there is no data of an earlier synchronization.",
	CodeInternalError:   "A data source could not be synchronized.",
	CodeNoDataSources:   "The user has no data sources. Import a bank connection first.",
}
