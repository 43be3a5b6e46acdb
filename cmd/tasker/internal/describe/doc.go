// Package describe turns tasks, responses and endpoints into the words that the command
// line prints. Texts from elsewhere are free of control characters.
package describe
