package banqup_test

import (
	"testing"
	"time"

	"github.com/bankfeed/bankfeed"
	"github.com/bankfeed/bankfeed/wire/banqup"
)

var installation = bankfeed.Installation{Born: time.UnixMilli(1767225600000), Epoch: 1767225600001}

// uuid is an id of tenant 1 of the installation of these tests.
func uuid(k bankfeed.Kind, n int64) bankfeed.UUID { return installation.UUID(k, 1, n) }

func transactionEvent() *bankfeed.Event {
	at := time.Date(2026, 3, 2, 9, 30, 15, 187268600, time.UTC)
	after := bankfeed.Money{Amount: bankfeed.MustAmount("1204.55"), Currency: "PLN"}
	return &bankfeed.Event{
		Epoch: installation.Epoch, Tenant: 1, Position: 4711, Type: bankfeed.EventTransactionCreated, At: at, User: 3, Connection: 5, Account: 12, Session: 9,
		Snapshot: &bankfeed.Snapshot{
			Schema: 1, Initiator: bankfeed.ByUser, Build: "20260301.1", Node: "e1f64b0a5f32",
			User:       bankfeed.UserRef{ID: 3, UUID: uuid(bankfeed.KindUser, 3), ExternalID: "anna", BusinessContext: bankfeed.Individual},
			Session:    &bankfeed.SessionRef{ID: 9, UUID: uuid(bankfeed.KindSession, 9), TraceID: bankfeed.TraceID(uuid(bankfeed.KindSession, 9))},
			Connection: &bankfeed.Connection{ID: 5, BIC: "BREXPLPW"},
			Account: &bankfeed.Account{ID: 12, Currency: "PLN", Identifiers: []bankfeed.Identifier{
				{Type: bankfeed.IdentIBAN, Value: "PL61109010140000071219812874"}}},
			Transaction: &bankfeed.Transaction{
				ID: 881, Status: bankfeed.TransactionBooked, Money: bankfeed.Money{Amount: bankfeed.MustAmount("-45.50"), Currency: "PLN"},
				BookingDate: "2026-03-01", ValueDate: "2026-02-28", EndToEndID: "E2E-1", BalanceAfter: &after,
				Remittance: []string{"Zażółć gęślą jaźń <1> & \"co\"", "faktura 17/2026"},
				Creditor: bankfeed.Party{Name: "Sklep Łódź", Address: "ul. Piotrkowska 1, Łódź",
					Account: bankfeed.Identifier{Type: bankfeed.IdentIBAN, Value: "PL27114020040000300201355387"}},
			},
		},
	}
}

var bus = banqup.Bus{
	Address: "rabbitmq://broker:5672/hub", Source: "rabbitmq://broker:5672/hub/node_bankfeed_bus_e1f64b0a5f32?temporary=true",
	Host: banqup.Host{MachineName: "node", ProcessName: "bankfeed", ProcessID: 17, Assembly: "bankfeed", AssemblyVersion: "20260301.1",
		FrameworkVersion: "8.0.0", MassTransitVersion: "8.5.8.0", OperatingSystemVersion: "Unix"},
}

func BenchmarkTransactionInEnvelope(b *testing.B) {
	e := transactionEvent()
	d := banqup.Delivery{MessageID: e.ID(), SentTime: e.At}
	var message, envelope []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if message, err = banqup.AppendMessage(message[:0], e, banqup.Settings{}); err != nil {
			b.Fatal(err)
		}
		envelope = bus.AppendEnvelope(envelope[:0], banqup.Transaction, d, message)
	}
	b.SetBytes(int64(len(envelope)))
}
