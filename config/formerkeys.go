package config

import "strings"

// formerKeys returns the keys of the first tasker, which was written in Python, that were
// renamed or removed, each with advice.
func formerKeys() map[string]string {
	queue := "is now part of message_queue.uri: amqp://USERNAME:PASSWORD@HOST:PORT/VIRTUAL_HOST"
	named := "was removed: exchanges and queues are named after task types and endpoints; remove the key"
	return map[string]string{
		"manager.db.uri":                     "is now called database.uri",
		"manager.db.verbose":                 "was removed; set log.level to debug for a more detailed log",
		"manager.message_queue.host":         queue,
		"manager.message_queue.port":         queue,
		"manager.message_queue.username":     queue,
		"manager.message_queue.password":     queue,
		"manager.message_queue.virtual_host": queue,
		"manager.message_queue.exchange":     named,
		"manager.message_queue.queue":        named,
		"manager.message_queue.routing_key":  named,
	}
}

// formerKey returns the advice for a former key.
func formerKey(path string) (string, bool) {
	advice, ok := formerKeys()[path]
	return advice, ok
}

// hasFormerKeys reports whether a section had former keys.
func hasFormerKeys(path string) bool {
	for key := range formerKeys() {
		if strings.HasPrefix(key, path+".") {
			return true
		}
	}
	return false
}
