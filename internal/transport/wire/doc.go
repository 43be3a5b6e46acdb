// Package wire holds the code that does not depend on the protocol of a transport: it decodes
// messages, delivers batches until they are stored, spaces reconnections and ends the
// operations of a closed connection. Packages httplink and rabbitmq use it.
package wire
