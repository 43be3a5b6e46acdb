package config

import "strings"

// formerKeys are the keys of the first, Python, tasker that are called otherwise
// or gone, with what to do about each.
func formerKeys() map[string]string {
	queue := "is part of message_queue.uri now: amqp://USERNAME:PASSWORD@HOST:PORT/VIRTUAL_HOST"
	named := "is gone: exchanges and queues are named after task types and endpoints; remove it"
	return map[string]string{
		"manager.db.uri":                     "is called database.uri now",
		"manager.db.verbose":                 "is gone; for more in the log set log.level to debug",
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

// formerKey returns what to do about a former key.
func formerKey(path string) (string, bool) {
	advice, ok := formerKeys()[path]
	return advice, ok
}

// hasFormerKeys says whether a section had keys that are called otherwise now.
func hasFormerKeys(path string) bool {
	for key := range formerKeys() {
		if strings.HasPrefix(key, path+".") {
			return true
		}
	}
	return false
}
