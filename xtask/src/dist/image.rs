//! The container image, as an archive that `podman load`, `docker load` and `ctr images import` read without a registry.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::{VERSION, put, tar};
use crate::digest::sum;
use crate::process::run;

/// The name that the image gets.
const NAME: &str = "localhost/twtrace";

/// Builds it: the static program, and nothing else.
pub(super) fn build(program: &Path, work: &Path, out: &Path) -> Result<PathBuf> {
    let (files, layout) = (work.join("image-files"), work.join("image"));
    put(program, &files.join("usr/bin/twtrace"), 0o755)?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = work.join("layer.tar");
    run(tar().arg("-cf").arg(&layer).arg("-C").arg(&files).arg("usr"))?;
    // A blob is called after its sum.
    let blob = |file: &Path| -> Result<(String, u64)> {
        let (sum, size) = (sum(file)?, fs::metadata(file)?.len());
        fs::copy(file, blobs.join(&sum))?;
        Ok((sum, size))
    };
    let document = |name: &str, value: serde_json::Value| -> Result<(String, u64)> {
        let file = work.join(name);
        fs::write(&file, serde_json::to_vec(&value)?)?;
        blob(&file)
    };
    let (layer_sum, layer_size) = blob(&layer)?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/usr/bin/twtrace"], "Cmd": ["agent"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_sum}")]},
    });
    let (config_sum, config_size) = document("config.json", config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": format!("sha256:{config_sum}"),
            "size": config_size,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer_sum}"),
            "size": layer_size,
        }],
    });
    let (manifest_sum, manifest_size) = document("manifest.json", manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{manifest_sum}"),
            "size": manifest_size,
            "platform": {"architecture": "amd64", "os": "linux"},
            "annotations": {
                "org.opencontainers.image.ref.name": VERSION,
                "io.containerd.image.name": format!("{NAME}:{VERSION}"),
            },
        }],
    });
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    // What `docker load` reads, before it knew the other form.
    let old = json!([{
        "Config": format!("blobs/sha256/{config_sum}"),
        "RepoTags": [format!("{NAME}:{VERSION}")],
        "Layers": [format!("blobs/sha256/{layer_sum}")],
    }]);
    fs::write(layout.join("manifest.json"), serde_json::to_vec(&old)?)?;
    let file = out.join(format!("twtrace-{VERSION}-image.tar"));
    run(tar().arg("-cf").arg(&file).arg("-C").arg(&layout).args([
        "blobs",
        "index.json",
        "manifest.json",
        "oci-layout",
    ]))?;
    Ok(file)
}
