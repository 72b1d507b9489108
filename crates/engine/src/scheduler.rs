//! The order of work: a chunk of a prompt, or a round of requests that decode.
//!
//! Requests that decode take their turns by least recent service, as many in one pass as pay, and between two rounds
//! the oldest prompt is fed one chunk: no request waits for longer than one unit of each other one.

/// A request as the scheduler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// True while its prompt is being fed.
    pub prefill: bool,
    /// The number of the unit that served it last; 0 before the first.
    pub served: u64,
    /// True while its reader does not keep up.
    pub blocked: bool,
}

/// A unit of work; requests by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A chunk of the prompt of one request.
    Chunk(usize),
    /// A round of the first of these requests, of as many as pay.
    Round(Vec<usize>),
}

/// The next unit of `requests`, which stand in the order of their arrival; `None` where all are blocked.
pub fn next(requests: &[Candidate]) -> Option<Unit> {
    let ready = || requests.iter().enumerate().filter(|(_, request)| !request.blocked);
    let prompt = ready().find(|(_, request)| request.prefill);
    let mut decoding: Vec<(usize, &Candidate)> = ready().filter(|(_, request)| !request.prefill).collect();
    decoding.sort_by_key(|(_, request)| request.served);
    match (prompt, decoding.first()) {
        (Some((place, prompt)), first)
            if first.is_none_or(|(other, first)| (prompt.served, place) < (first.served, *other)) =>
        {
            Some(Unit::Chunk(place))
        }
        (_, None) => None,
        (_, Some(_)) => Some(Unit::Round(decoding.into_iter().map(|(place, _)| place).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves requests that need so many chunks and rounds, `size` at once; the order in which they were served.
    fn play(mut needs: Vec<(usize, usize)>, size: usize) -> Vec<Vec<usize>> {
        let mut requests: Vec<Candidate> =
            needs.iter().map(|_| Candidate { prefill: true, served: 0, blocked: false }).collect();
        let mut order = Vec::new();
        for unit in 1.. {
            for (request, (chunks, rounds)) in requests.iter_mut().zip(&needs) {
                request.prefill = *chunks > 0;
                request.blocked = *chunks + *rounds == 0;
            }
            let served = match next(&requests) {
                None => break,
                Some(Unit::Chunk(place)) => {
                    needs[place].0 -= 1;
                    vec![place]
                }
                Some(Unit::Round(mut places)) => {
                    places.truncate(size);
                    places.iter().for_each(|&place| needs[place].1 -= 1);
                    places
                }
            };
            served.iter().for_each(|&place| requests[place].served = unit);
            order.push(served);
        }
        order
    }

    #[test]
    fn rounds_in_turn_and_a_chunk_of_the_oldest_prompt_between_them() {
        let alone = |needs| play(needs, 1).concat();
        assert_eq!(alone(vec![(1, 3), (1, 2)]), [0, 1, 0, 1, 0, 1, 0]);
        assert_eq!(alone(vec![(1, 3), (3, 1)]), [0, 1, 0, 1, 0, 1, 0, 1]);
        // The third prompt waits for the second's end.
        assert_eq!(alone(vec![(1, 4), (2, 0), (2, 0)]), [0, 1, 0, 1, 2, 0, 2, 0, 0]);
    }

    #[test]
    fn requests_that_decode_share_rounds() {
        let order: [&[usize]; 6] = [&[0], &[1], &[2, 0], &[1], &[0, 2, 1], &[0, 1]];
        assert_eq!(play(vec![(1, 3), (2, 2), (0, 2)], 8), order);
        // Two at once of three: in turn.
        assert_eq!(play(vec![(0, 2), (0, 2), (0, 2)], 2), [[0, 1], [2, 0], [1, 2]]);
    }

    #[test]
    fn a_blocked_request_is_passed_over() {
        let request = |prefill, served, blocked| Candidate { prefill, served, blocked };
        assert_eq!(next(&[request(false, 1, true), request(false, 9, false)]), Some(Unit::Round(vec![1])));
        assert_eq!(next(&[request(true, 1, true), request(true, 9, false)]), Some(Unit::Chunk(1)));
        assert_eq!(next(&[request(false, 1, true)]), None);
        assert_eq!(next(&[]), None);
    }
}
