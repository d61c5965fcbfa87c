// Package client is for Go programs that use a bankfeed hub, or a server that
// speaks one of the same interfaces.
//
// DataIntelligence, Access, ProcessController and WebForms call the finAPI
// interface: data sources, cases, reports and checks; tokens and users; web forms.
// Package client/process builds on them what an application needs around a
// synchronization. Webhook verifies the callbacks that the hub sends.
//
// Stream consumes the hub's stream of messages from RabbitMQ. It stands beside
// other consumers as one more MassTransit endpoint: the same topology, the same
// _error and _skipped queues, the same reports of faults, which the hub reads to
// know what became of its messages. What MassTransit lacks, it adds when asked
// to: an acknowledgement to the hub of every message that was processed.
package client
