// Package masstransit is a consumer of the stream as a company runs it on .NET:
// it builds the topology that MassTransit builds, judges every message as
// MassTransit 7 (Newtonsoft) or 8 (System.Text.Json) would, and reports what it
// cannot take as they do. Tests use it to prove that existing consumers can read
// what the hub sends, and its Ledger counts what was lost, repeated or out of
// order.
//
// The message contracts are written from the vendor's page, on purpose without a
// look at wire/banqup: a mistake there must not be repeated here. It is no
// MassTransit: no sagas, no requests, no concurrency; it consumes one message
// after the other so that the order of arrival is known.
package masstransit
