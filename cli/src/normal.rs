//! Paths as they are shown and sent to the daemon: from the root, without `.` and `..`.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

/// The path from the root. `..` goes to where it leads on the disk, also behind symbolic links; where there
/// is nothing yet it takes back the name before it. No other link is followed.
///
/// # Errors
/// When the path is empty, or there is no current folder.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let leads_back = |it: Component| it == Component::ParentDir;
    if path.file_name().is_none() && path.exists() {
        return path.canonicalize();
    }
    if !absolute.components().any(leads_back) {
        return Ok(absolute);
    }
    let mut normal = PathBuf::new();
    for component in absolute.components() {
        if leads_back(component) {
            normal = normal.canonicalize().unwrap_or(normal);
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_without_following_links() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a b")).unwrap(), here.join("a b"));
        let resolved = here.canonicalize().unwrap();
        assert_eq!(absolute(Path::new(".")).unwrap(), resolved);
        assert_eq!(
            absolute(Path::new("..")).unwrap(),
            resolved.parent().unwrap()
        );
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn what_leads_back_is_gone_and_goes_where_the_disk_says() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("far/away")).unwrap();
        std::os::unix::fs::symlink(root.join("far/away"), root.join("link")).unwrap();
        for (path, expected) in [
            ("run/../data", "data"),
            ("far/../data/x", "data/x"),
            ("link/../data", "far/data"),
            ("link/data", "link/data"),
        ] {
            assert_eq!(
                absolute(&root.join(path)).unwrap(),
                root.join(expected),
                "{path}"
            );
        }
    }
}
