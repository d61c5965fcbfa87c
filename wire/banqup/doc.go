// Package banqup holds the words of banqUP's stream: its five messages, the
// MassTransit envelope around them, and the pure rendering of the hub's events
// into both. It reads them too, and what MassTransit publishes when a consumer
// fails. It neither sends nor receives anything.
//
// Source of names, types and shapes: the vendor's page "Streaming danych"; for
// envelope, exchanges and faults the sources of MassTransit 7 and 8. Where the
// page is silent or contradicts itself we chose; docs/banqup.md lists each choice.
package banqup
