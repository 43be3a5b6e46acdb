// Package table lays out text for a terminal: tables whose columns fit its width, lines
// wrapped between words, and notes below a table. It knows nothing of tasks.
package table
