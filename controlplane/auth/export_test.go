package auth

// Addresses returns how many addresses are known.
func (l *FailureLimiter) Addresses() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addresses.order.Len()
}
