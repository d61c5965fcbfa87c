// Loancheck is a small web application on the packages client/process and
// client/processsql: can a customer pay an amount, and what does the account
// look like?
//
// The customer enters the amount, connects a bank on a page of the hub and comes
// back; the browser watches the process live and shows the check and the reports.
// What the application itself keeps is a row for each inquiry; everything about
// synchronization, callbacks, polling and going on after a crash is the package's.
//
//	go run ./examples/loancheck --demo
//	LOANCHECK_CLIENT_ID=… LOANCHECK_CLIENT_SECRET=… go run ./examples/loancheck --hub http://127.0.0.1:8440
package main
