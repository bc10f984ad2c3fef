//! All values, or all errors: whoever has made several mistakes is told of them at once.

/// All values, or all errors. Every result is looked at, also behind an error.
///
/// # Errors
/// Those that there are, in order.
pub(crate) fn all<T, E>(results: impl Iterator<Item = Result<T, E>>) -> Result<Vec<T>, Vec<E>> {
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() {
        Ok(values)
    } else {
        Err(wrong)
    }
}
