package ledger

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Label gives the words that stand for a column where the mapping gives none: its name in title case without a final
// "_id". "total_cost" is "Total Cost", "custom_fields.risk_level" is "Risk Level".
func Label(column string) string {
	if i := strings.LastIndexByte(column, '.'); i >= 0 {
		column = column[i+1:]
	}
	words := strings.FieldsFunc(strings.TrimSuffix(column, "_id"), func(r rune) bool { return r == '_' })
	for i, word := range words {
		first, size := utf8.DecodeRuneInString(word)
		words[i] = string(unicode.ToUpper(first)) + word[size:]
	}
	return strings.Join(words, " ")
}
