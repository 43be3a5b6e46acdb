// Package wire holds what every transport needs and no protocol changes: it decodes
// messages, delivers batches until they are stored, spaces reconnections and ends the
// operations of a closed connection. httplink and rabbitmq stand on it.
package wire
