//! The order of work: which request takes the next unit, a round or a chunk of its prompt.
//!
//! Decoding requests take rounds in turn, and between two turns the oldest prompt is fed one chunk: no request waits for longer than one
//! unit of each other one.

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

/// The place of the request that the next unit serves, of `requests` in the order of their arrival; `None` where all are blocked.
pub fn next(requests: &[Candidate]) -> Option<usize> {
    let oldest_prompt = requests.iter().position(|request| request.prefill && !request.blocked);
    let ready = requests
        .iter()
        .enumerate()
        .filter(|(place, request)| !request.blocked && (!request.prefill || Some(*place) == oldest_prompt));
    ready.min_by_key(|(_, request)| request.served).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves requests that need so many chunks and rounds; the order in which they were served.
    fn play(mut needs: Vec<(usize, usize)>) -> Vec<usize> {
        let mut requests: Vec<Candidate> =
            needs.iter().map(|_| Candidate { prefill: true, served: 0, blocked: false }).collect();
        let mut order = Vec::new();
        for unit in 1.. {
            for (request, (chunks, rounds)) in requests.iter_mut().zip(&needs) {
                request.prefill = *chunks > 0;
                request.blocked = *chunks + *rounds == 0;
            }
            let Some(place) = next(&requests) else { break };
            let (chunks, rounds) = &mut needs[place];
            if *chunks > 0 {
                *chunks -= 1
            } else {
                *rounds -= 1
            }
            requests[place].served = unit;
            order.push(place);
        }
        order
    }

    #[test]
    fn rounds_in_turn_and_a_chunk_of_the_oldest_prompt_between_them() {
        assert_eq!(play(vec![(1, 3), (1, 2)]), [0, 1, 0, 1, 0, 1, 0]);
        assert_eq!(play(vec![(1, 3), (3, 1)]), [0, 1, 0, 1, 0, 1, 0, 1]);
        // The third prompt waits for the second's end.
        assert_eq!(play(vec![(1, 4), (2, 0), (2, 0)]), [0, 1, 0, 1, 2, 0, 2, 0, 0][..].to_vec());
    }

    #[test]
    fn a_blocked_request_is_passed_over() {
        let request = |prefill, served, blocked| Candidate { prefill, served, blocked };
        assert_eq!(next(&[request(false, 1, true), request(false, 9, false)]), Some(1));
        assert_eq!(next(&[request(true, 1, true), request(true, 9, false)]), Some(1));
        assert_eq!(next(&[request(false, 1, true)]), None);
        assert_eq!(next(&[]), None);
    }
}
