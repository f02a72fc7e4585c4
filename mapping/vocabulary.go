package mapping

import "slices"

// Applications are the applications that the file's records belong to, in the order in which they first stand there.
func (r *Rules) Applications() []string {
	return r.words(func(t *table) string {
		if t.record == nil {
			return ""
		}
		return t.record.Application
	})
}

// Resources are the names of the file's resources, sorted.
func (r *Rules) Resources() []string {
	list := r.words(func(t *table) string { return t.resource })
	slices.Sort(list)
	return list
}

func (r *Rules) words(of func(*table) string) []string {
	var list []string
	for _, t := range r.order {
		if word := of(t); word != "" && !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}
