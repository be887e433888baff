//! What a share is made of: its files, which parts are here, who is connected for it.
//!
//! Not here: how shares stand as wholes ([`super::report`]).

use warren_proto::content::{ChunkSet, Content};
use warren_proto::id::SwarmId;

use super::Node;
use crate::control::model::{ApiError, Contents, Event, FILES, FileStanding, MAP_PARTS};
use crate::share::Share;

impl Node {
    /// The contents of the share that a person names.
    pub(super) fn contents(&self, share: &str) -> Result<Event, ApiError> {
        let swarm = self.find(share)?;
        let contents = self.shares.get(&swarm).map(|share| {
            let mut contents = Contents {
                content_id: share.record.id.to_string(),
                peers: self.joined_peers(&swarm),
                ..Contents::default()
            };
            if let Some(offer) = share.offer() {
                let have = self.have_of(&swarm, share, &offer.content);
                describe(&mut contents, &offer.content, &have);
                mark_wanted(&mut contents.files, share);
            }
            contents
        });
        Ok(Event::Contents(contents.unwrap_or_default()))
    }

    fn joined_peers(&self, swarm: &SwarmId) -> Vec<String> {
        let joined = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.joined(swarm).is_some());
        joined.map(|(key, _)| key.to_string()).collect()
    }

    /// Which chunks are here.
    fn have_of(&self, swarm: &SwarmId, share: &Share, content: &Content) -> ChunkSet {
        let count = content.layout.chunk_count();
        match (self.download_of(swarm), share.offer()) {
            (Some(download), _) => download.have().clone(),
            (None, Some(offer)) => offer.have_now(),
            (None, None) => ChunkSet::empty(count),
        }
    }
}

fn describe(contents: &mut Contents, content: &Content, have: &ChunkSet) {
    contents.chunks = content.layout.chunk_count();
    contents.chunks_here = have.count();
    contents.map = map(have);
    let told = FILES.min(content.file_count() as usize);
    contents.files = (0..told as u32)
        .map(|file| FileStanding {
            path: path_of(content, file),
            bytes: content.file_size(file).unwrap_or_default(),
            verified_bytes: 0,
            wanted: true,
        })
        .collect();
    contents.more_files = u64::from(content.file_count()) - told as u64;
    for chunk in have.iter() {
        for extent in content.layout.extents(chunk) {
            if let Some(file) = contents.files.get_mut(extent.file as usize) {
                file.verified_bytes += u64::from(extent.len);
            }
        }
    }
}

fn path_of(content: &Content, file: u32) -> String {
    match content.file_path(file) {
        Some(path) => path.to_string(),
        None => content.name.to_string(),
    }
}

fn mark_wanted(files: &mut [FileStanding], share: &Share) {
    let Some(picked) = &share.picked else { return };
    for (file, wanted) in files.iter_mut().zip(&picked.chosen) {
        file.wanted = *wanted;
    }
}

/// Percent of each part; rounded down, so that 100 is all of it.
fn map(have: &ChunkSet) -> Vec<u8> {
    let (len, parts) = (have.len(), have.len().min(MAP_PARTS));
    let begin = |part: u32| (u64::from(part) * u64::from(len) / u64::from(parts)) as u32;
    let mut here = vec![0_u32; parts as usize];
    for chunk in have.iter() {
        // The part in which it is: the last that begins at or before it.
        let value = u64::from(chunk.value());
        let part = ((value + 1) * u64::from(parts) - 1) / u64::from(len);
        here[part as usize] += 1;
    }
    let percent = |(part, here): (usize, u32)| {
        let part = part as u32;
        (here * 100 / (begin(part + 1) - begin(part))) as u8
    };
    here.into_iter().enumerate().map(percent).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_map_is_of_the_chunks_themselves_where_they_are_few() {
        let mut have = ChunkSet::empty(4);
        have.insert(have.index(2).unwrap());
        assert_eq!(map(&have), [0, 0, 100, 0]);
        assert!(map(&ChunkSet::empty(0)).is_empty());
    }

    proptest! {
        #[test]
        fn each_chunk_counts_in_one_part_and_only_what_is_whole_is_100(
            len in 1..5000_u32,
            missing in any::<prop::sample::Index>(),
        ) {
            let mut have = ChunkSet::full(len);
            prop_assert!(map(&have).iter().all(|percent| *percent == 100));
            prop_assert_eq!(map(&have).len() as u32, len.min(MAP_PARTS));
            let chunk = have.index(missing.index(len as usize) as u32).unwrap();
            have.remove(chunk);
            let broken = map(&have).iter().filter(|percent| **percent < 100).count();
            prop_assert_eq!(broken, 1);
        }
    }
}
