package berlingroup

import (
	"fmt"
	"strings"
	"testing"
)

// page500 is a page of 500 transactions with the members that banks usually
// send, none of them twice the same.
func page500() []byte {
	var b strings.Builder
	b.WriteString(`{"account":{"iban":"DE38760700240320465700","currency":"EUR"},"transactions":{"booked":[`)
	for i := range 500 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"transactionId":"TX-2024-%08d","entryReference":"ER%010d","endToEndId":"E2E-%d","mandateId":"MND-%d","creditorId":"DE98ZZZ09999999999",`+
			`"bookingDate":"2024-%02d-%02d","valueDate":"2024-%02d-%02d","transactionAmount":{"currency":"EUR","amount":"-%d.%02d"},`+
			`"creditorName":"Händler Nr. %d GmbH","creditorAccount":{"iban":"DE%020d","currency":"EUR"},"creditorAgent":"COBADEFFXXX",`+
			`"debtorName":"Max Mustermann","debtorAccount":{"iban":"DE38760700240320465700"},`+
			`"remittanceInformationUnstructured":"Rechnung %d vom Februar, Kundennummer %d","bankTransactionCode":"PMNT-RDDT-ESDD",`+
			`"proprietaryBankTransactionCode":"NDDT+105+931","balanceAfterTransaction":{"balanceAmount":{"currency":"EUR","amount":"%d.11"},"balanceType":"interimBooked"},`+
			`"_links":{"transactionDetails":{"href":"/v1/accounts/3dc3d5b3-7023-4848-9853-f5400a64e80f/transactions/%d"}}}`,
			i, i, i, i%40, i%12+1, i%28+1, i%12+1, i%28+1, i, i%100, i%90, i%90, i, i*7, 100000-i, i)
	}
	b.WriteString(`],"_links":{"account":{"href":"/v1/accounts/3dc3d5b3-7023-4848-9853-f5400a64e80f"},"next":{"href":"/v1/accounts/x/transactions?page=2"}}}}`)
	return []byte(b.String())
}

func BenchmarkDecodeReport(b *testing.B) {
	page := page500()
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		rep, err := decodeReport(page, "EUR")
		if err != nil || len(rep.transactions) != 500 {
			b.Fatal(len(rep.transactions), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/transaction")
}
